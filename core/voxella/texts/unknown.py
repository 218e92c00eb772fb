"""Words that a text encoder's vocabulary does not have: they become one token, ``<unk>``."""

from __future__ import annotations

from collections.abc import Sequence

from voxella.plugins.contracts import TextEncoder

__all__ = ["unknown_counts"]


def unknown_counts(encoder: TextEncoder, texts: Sequence[str]) -> list[int]:
    """Return how many tokens of each text are unknown; 0 where an encoder does not tell."""
    count = getattr(encoder, "unknown_counts", None)
    return [0] * len(texts) if count is None else [int(number) for number in count(texts)]
