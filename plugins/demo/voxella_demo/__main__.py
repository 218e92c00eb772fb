"""``python -m voxella_demo`` prints where the small model lies."""

from __future__ import annotations

from voxella_demo import phantom_model

__all__: list[str] = []

print(phantom_model())
