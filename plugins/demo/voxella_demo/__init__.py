"""A small trained model that travels with the package, and what it was measured with.

It draws phantoms, not patients: for trying things out, for tests, for the demo.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["phantom_model"]


def phantom_model() -> Path:
    """Return the model's folder, for ``voxella.load_model`` and ``init.path``."""
    return Path(__file__).parent / "phantom"
