"""Transparent pixels of a picture: what lies behind them is nobody's measurement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxella.imaging.problem import ImageError

__all__ = ["hidden_by_key", "refuse_hidden"]


def hidden_by_key(image: Image.Image) -> NDArray[np.bool_]:
    """Return where a picture has the one colour, or grey, that its header calls transparent."""
    hidden = np.asarray(np.asarray(image) == np.asarray(image.info["transparency"]))
    return hidden if hidden.ndim == 2 else np.asarray(hidden.all(axis=2))


def refuse_hidden(path: Path, hidden: NDArray[np.bool_]) -> None:
    """Refuse a picture of which some pixels cannot be seen.

    Raises:
        ImageError: Any is hidden.
    """
    if hidden.any():
        raise ImageError(
            f"{path}: {hidden.mean():.2%} of its pixels are transparent",
            code="image.transparent",
            remedy="paint it onto a background and save it without transparency",
        )
