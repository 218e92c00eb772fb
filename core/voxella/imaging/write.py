"""How an image is written: as NIfTI, or as PNG where it has two axes and no millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.imaging.headers import image_suffix
from voxella.imaging.volume import COLOURS, write_volume

__all__ = ["is_picture", "write_image"]

_RGB_VECTOR = "rgb vector"
_GREY_WHITE, _COLOUR_WHITE = 65535, 255


def is_picture(array: NDArray[Any], spacing_mm: Sequence[float] | None) -> bool:
    """Return whether a generated ``(C, *spatial)`` becomes a PNG: two axes, of no size in mm."""
    return array.ndim == 3 and spacing_mm is None


def write_image(path: Path, array: NDArray[Any], affine: NDArray[Any]) -> Path:
    """Write an image of ``(C, *spatial)`` atomically, as NIfTI or as PNG by the path's suffix.

    A PNG has 8 bits a colour, or 16 bits of grey, and says nothing of millimetres.

    Args:
        path: Ends in ``.nii``, ``.nii.gz`` or ``.png``.
        array: C 1 or 3. For a PNG of two axes ``(C, R, A)`` in [0, 1]; as NIfTI, colours are
            float32 as well, grey is as :func:`voxella.imaging.volume.write_volume` has it.
        affine: ``(4, 4)`` voxel index to RAS+ mm; of no use to a PNG.

    Raises:
        UserError: The name is of another format, or values do not fit.
    """
    if image_suffix(path) == ".png":
        return _write_png(path, array)
    if len(array) == 1:
        return write_volume(path, array[0], affine)
    if image_suffix(path) not in {".nii", ".nii.gz"}:
        raise UserError(
            f"{path}: images are written as NIfTI or PNG", expected=".nii, .nii.gz, .png"
        )
    solid = array.reshape(*array.shape, *[1] * (4 - array.ndim))
    behind = np.moveaxis(solid, 0, -1)[..., None, :].astype(np.float32)
    image = nib.Nifti1Image(behind, np.asarray(affine, dtype=np.float64))
    image.header.set_intent(_RGB_VECTOR)
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    with atomic_path(Path(path)) as temporary:
        nib.save(image, temporary)
    return Path(path)


def _write_png(path: Path, array: NDArray[Any]) -> Path:
    shape = array.shape
    if len(shape) != 3 or shape[0] not in (1, COLOURS) or not 0 <= array.min() <= array.max() <= 1:
        raise UserError(
            f"{path}: an image of {shape} cannot be written as PNG",
            expected="(1, R, A) or (3, R, A) in [0, 1]",
        )
    white = _COLOUR_WHITE if shape[0] == COLOURS else _GREY_WHITE
    whole = np.rint(array.astype(np.float64) * white)
    # The patient's right to the left, anterior to the top: what read_image turns back.
    upright = whole.transpose(2, 1, 0)[::-1, ::-1].astype(
        np.uint8 if shape[0] == COLOURS else np.uint16
    )
    pixels = upright if shape[0] == COLOURS else upright[..., 0]
    with atomic_path(Path(path)) as temporary:
        Pillow.fromarray(np.ascontiguousarray(pixels)).save(temporary, format="PNG")
    return Path(path)
