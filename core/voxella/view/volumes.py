"""A volume as the page's viewer takes it: NIfTI in memory, or a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from starlette.responses import Response

from voxella.imaging.headers import is_raster
from voxella.imaging.montage import enlarged, three_planes
from voxella.imaging.volume import read_image

__all__ = ["NIFTI", "PNG", "file_response", "nifti_bytes", "png_bytes", "volume_response"]

NIFTI, PNG = "application/octet-stream", "image/png"
_WHITE = 255
# A picture of fewer pixels is enlarged to about this width.
_PIXELS = 512


def nifti_bytes(array: NDArray[Any], affine: NDArray[Any]) -> bytes:
    """Return an uncompressed NIfTI-1 file: the same machine reads it, and gzip costs seconds.

    Args:
        array: ``(1, R, A, S)`` of numbers, float32; ``(3, R, A, S)`` in [0, 1], 24 bits of colour.
        affine: ``(4, 4)`` voxel index to RAS+ mm.
    """
    solid = array.reshape(*array.shape, *[1] * (4 - array.ndim))
    if len(solid) == 1:
        image = nib.Nifti1Image(solid[0].astype(np.float32), np.asarray(affine, dtype=np.float64))
    else:
        colours = np.rint(np.clip(solid, 0, 1) * _WHITE).astype(np.uint8)
        kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        packed = np.ascontiguousarray(np.moveaxis(colours, 0, -1)).view(kind)[..., 0]
        image = nib.Nifti1Image(packed, np.asarray(affine, dtype=np.float64))
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())


def png_bytes(
    array: NDArray[Any], spacing_mm: Sequence[float] | None, window: tuple[float, float] = (0, 1)
) -> bytes:
    """Return an image of two axes, or the three mid-planes of a volume, as PNG.

    Args:
        array: ``(C, *spatial)``, C 1 or 3.
        spacing_mm: Edges of a voxel; None: equal ones.
        window: Values that are black and white.
    """
    edges = [1.0] * (array.ndim - 1) if spacing_mm is None else list(spacing_mm)
    solid = array.reshape(*array.shape, *[1] * (4 - array.ndim))
    picture = three_planes(solid, [*edges, *[1.0] * (3 - len(edges))], window=window)
    if picture.shape[1] < _PIXELS:
        picture = enlarged(picture, _PIXELS)
    out = io.BytesIO()
    Pillow.fromarray(picture).save(out, format="PNG")
    return out.getvalue()


def volume_response(
    array: NDArray[Any],
    affine: NDArray[Any],
    spacing_mm: Sequence[float] | None,
    suffix: str,
    window: tuple[float, float] = (0.0, 1.0),
) -> Response:
    """Return a volume in the form that the address asks for: ``nii`` or ``png``."""
    if suffix == "png":
        return Response(png_bytes(array, spacing_mm, window), media_type=PNG)
    return Response(nifti_bytes(array, affine), media_type=NIFTI)


def file_response(
    path: Path, suffix: str, percentiles: tuple[float, float] | None = None
) -> Response:
    """Return an image file of the disk, in its own numbers; a picture's in [0, 1].

    Args:
        path: From a manifest, never from a request.
        suffix: ``nii`` or ``png``.
        percentiles: Of its values that are black and white in a picture; None: 0 and 100.

    Raises:
        UserError: The file cannot be read.
    """
    image = read_image(path)
    array = np.nan_to_num(image.array, posinf=0.0, neginf=0.0)
    if image.is_colour or is_raster(path):
        array = array / max(image.white, float(array.max()), 1e-9)
        window = (0.0, 1.0)
    else:
        low, high = np.percentile(array, percentiles or (0.0, 100.0))
        window = (float(low), max(float(high), float(low) + 1e-9))
    spacing = image.first.spacing_mm
    return volume_response(array, image.first.affine, list(spacing), suffix, window)
