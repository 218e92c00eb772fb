"""How an exported image is written: the values as they were read, in the smallest exact type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxella.imaging.volume import Affine, Array, Image
from voxella.imaging.write import write_image

__all__ = ["exact_int16", "write_anew"]


def exact_int16(array: Array) -> NDArray[np.int16] | None:
    """Return the same values as int16, or None where one of them has no such value."""
    if not np.isfinite(array).all():
        return None
    limits = np.iinfo(np.int16)
    if array.size and not (limits.min <= array.min() and array.max() <= limits.max):
        return None
    whole = array.astype(np.int16)
    return whole if np.array_equal(whole, array) else None


def write_anew(path: Path, image: Image, affine: Affine | None = None) -> Path:
    """Write an image with nothing of its file but voxels and grid, and return the path.

    What else a header holds (a comment, a name, a date) stays behind. Grey is written as int16
    where that is exact, else as float32; colours as float32; a picture without millimetres as PNG.

    Args:
        path: Without its suffix, which is ``.nii.gz`` or ``.png``.
        image: As :func:`voxella.imaging.volume.read_image` returns it.
        affine: ``(4, 4)`` to write in place of the image's own.
    """
    array: NDArray[Any] = image.array
    where = image.first.affine if affine is None else affine
    if not image.in_mm:
        return write_image(path.with_name(f"{path.name}.png"), array[..., 0] / image.white, where)
    if not image.is_colour and (whole := exact_int16(image.first.array)) is not None:
        array = whole[None]
    return write_image(path.with_name(f"{path.name}.nii.gz"), array, where)
