"""Images in RAS order, of 2 or 3 axes, grey or in colours: read from any of the formats.

An array's axes run towards the patient's right, anterior and superior, as nearly as the scan allows
(axes are permuted and flipped, voxels are never interpolated here), and the affine maps voxel
indices to RAS+ millimetres, keeping the scan's obliquity exactly. A picture (PNG, JPEG, TIFF) lies
as viewers show an axial slice: its left is the patient's right, its top is anterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.imaging.affine import affine_problem
from voxella.imaging.headers import check_image_file, image_suffix, is_raster
from voxella.imaging.problem import ImageError
from voxella.imaging.raster import read_raster
from voxella.imaging.readers import Affine, Array, Stored, read_itk, read_nifti

__all__ = [
    "COLOURS",
    "PIXEL_AFFINE",
    "Affine",
    "Array",
    "Image",
    "Volume",
    "closest_ras",
    "read_image",
    "read_stored",
    "read_volume",
    "write_volume",
]

COLOURS = 3
# Columns run towards the patient's left, rows towards posterior; a pixel counts as 1.
PIXEL_AFFINE: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Volume:
    """One grey image, or one colour of an image, in RAS order.

    Attributes:
        array: ``(R, A, S)`` float32. A 2D image has one slice along S.
        affine: ``(4, 4)`` voxel index to RAS+ mm.
    """

    array: Array
    affine: Affine

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Return the voxel's edges along R, A, S in mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0), dtype=np.float64)


@dataclass(frozen=True)
class Image:
    """One image, as stored but in RAS order.

    Attributes:
        channels: One volume; or three for red, green and blue, all on one grid.
        white: See :class:`voxella.imaging.readers.Stored`.
        in_mm: Whether the affine counts in mm; else in pixels, for the file does not say.
    """

    channels: tuple[Volume, ...]
    white: float = 1.0
    in_mm: bool = True

    @classmethod
    def of(cls, image: Volume | Image) -> Image:
        """Return a volume as an image of one channel; an image as it is."""
        return image if isinstance(image, Image) else cls((image,))

    @property
    def first(self) -> Volume:
        """Return the first channel, which has the grid of all."""
        return self.channels[0]

    @property
    def array(self) -> Array:
        """Return ``(C, R, A, S)`` float32."""
        return np.stack([channel.array for channel in self.channels])

    @property
    def is_colour(self) -> bool:
        """Return whether it has red, green and blue."""
        return len(self.channels) == COLOURS

    @property
    def spacing_mm(self) -> NDArray[np.float64] | None:
        """Return the voxel's edges along R, A, S in mm; None where they are not known."""
        return self.first.spacing_mm if self.in_mm else None

    def grey(self) -> Volume:
        """Return the one channel, or the mean of three."""
        if not self.is_colour:
            return self.first
        return Volume(np.asarray(self.array.mean(axis=0), dtype=np.float32), self.first.affine)


def read_stored(path: Path) -> Stored:
    """Read an image file in its own axis order; nothing of its affine is judged.

    Raises:
        ImageError: As :func:`read_image`, affine and NaN left aside.
    """
    if is_raster(path):
        array, white = read_raster(path)
        return Stored(array[..., None], PIXEL_AFFINE, white)
    return read_nifti(path) if str(image_suffix(path)).startswith(".nii") else read_itk(path)


def read_image(path: Path) -> Image:
    """Read one 2D or 3D image, grey or in colours, reoriented to the closest RAS axes.

    Intensities are the stored ones, with NIfTI's slope and intercept applied.

    Raises:
        ImageError: The file is absent, of another format, a Git-LFS pointer, truncated or damaged;
            it holds 4D, vector or complex voxels, or nothing but NaN; it does not say how large its
            voxels are in mm or how they lie; its affine is singular, sheared or not finite; a
            picture breaks a rule of :mod:`voxella.imaging.raster`. The message names the path.
    """
    path = Path(path)
    check_image_file(path)
    stored = read_stored(path)
    _check_affine(path, stored.affine)
    if not np.isfinite(stored.array).any():
        problem = f"{path}: holds no finite value, only NaN or infinity"
        raise ImageError(problem, code="image.no-finite")
    channels = tuple(closest_ras(channel, stored.affine) for channel in stored.array)
    return Image(channels, stored.white, in_mm=not is_raster(path))


def read_volume(path: Path) -> Volume:
    """Read one grey image, as :func:`read_image`.

    Raises:
        ImageError: As :func:`read_image`; it is in colours.
    """
    image = read_image(path)
    if image.is_colour:
        raise ImageError(
            f"{path}: colour (RGB) or vector voxels; one number per voxel is needed",
            code="image.colour",
        )
    return image.first


def write_volume(path: Path, array: NDArray[Any], affine: NDArray[Any]) -> Path:
    """Write NIfTI atomically, with the affine as both sform and qform (scanner coordinates).

    The same voxels give the same bytes, compressed or not.

    Args:
        path: Ends in ``.nii`` or ``.nii.gz``.
        array: ``(R, A, S)`` or ``(R, A)``; floats are stored as float32, integers as int16.
        affine: ``(4, 4)`` voxel index to RAS+ mm.

    Raises:
        UserError: The name does not say NIfTI, or integers do not fit into int16.
    """
    if image_suffix(path) not in {".nii", ".nii.gz"}:
        raise UserError(f"{path}: volumes are written as NIfTI", expected=".nii, .nii.gz")
    image = nib.Nifti1Image(_storable(path, array), np.asarray(affine, dtype=np.float64))
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    with atomic_path(Path(path)) as temporary:
        nib.save(image, temporary)
    return Path(path)


def _storable(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32, copy=False)
    limits = np.iinfo(np.int16)
    if array.size and not (limits.min <= array.min() and array.max() <= limits.max):
        raise UserError(
            f"{path}: values do not fit into int16", expected=f"{limits.min}..{limits.max}"
        )
    return array.astype(np.int16)


def _check_affine(path: Path, affine: Affine) -> None:
    """Refuse an affine in which millimetres mean nothing."""
    if (wrong := affine_problem(affine)) is not None:
        code, problem = wrong
        remedy = "convert it from its DICOM again"
        if code == "geometry.sheared":
            remedy = f"resample it onto an unsheared grid, or {remedy}"
        raise ImageError(f"{path}: {problem}", code=code, remedy=remedy)


def closest_ras(array: Array, affine: Affine) -> Volume:
    """Permute and flip the axes so that they run most nearly towards R, A and S."""
    orientation = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(array, orientation)
    back = nib.orientations.inv_ornt_aff(orientation, array.shape)
    return Volume(np.ascontiguousarray(turned, dtype=np.float32), affine @ back)
