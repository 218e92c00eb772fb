"""Volumes in RAS order: read from any of the formats, written as NIfTI.

An array's axes run towards the patient's right, anterior and superior, as nearly as the scan allows
(axes are permuted and flipped, voxels are never interpolated here), and the affine maps voxel
indices to RAS+ millimetres, keeping the scan's obliquity exactly.
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
from voxella.imaging.headers import check_image_file, image_suffix
from voxella.imaging.problem import ImageError
from voxella.imaging.readers import Affine, Array, read_itk, read_nifti

__all__ = ["Affine", "Array", "Volume", "read_volume", "write_volume"]


@dataclass(frozen=True)
class Volume:
    """One image in RAS order.

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


def read_volume(path: Path) -> Volume:
    """Read one scalar 2D or 3D image, reoriented to the closest RAS axes.

    Intensities are the stored ones, with NIfTI's slope and intercept applied.

    Raises:
        ImageError: The file is absent, of another format, a Git-LFS pointer, truncated or damaged;
            it holds 4D, colour or complex voxels, or nothing but NaN; it does not say how large its
            voxels are in mm or how they lie; its affine is singular, sheared or not finite. The
            message names the path.
    """
    path = Path(path)
    check_image_file(path)
    nifti = str(image_suffix(path)).startswith(".nii")
    array, affine = read_nifti(path) if nifti else read_itk(path)
    _check_affine(path, affine)
    if not np.isfinite(array).any():
        problem = f"{path}: holds no finite value, only NaN or infinity"
        raise ImageError(problem, code="image.no-finite")
    return _closest_ras(array, affine)


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
        raise UserError(f"{path}: volumes are written as NIfTI", legal=".nii, .nii.gz")
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
            f"{path}: values do not fit into int16", legal=f"{limits.min}..{limits.max}"
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


def _closest_ras(array: Array, affine: Affine) -> Volume:
    """Permute and flip the axes so that they run most nearly towards R, A and S."""
    orientation = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(array, orientation)
    back = nib.orientations.inv_ornt_aff(orientation, array.shape)
    return Volume(np.ascontiguousarray(turned, dtype=np.float32), affine @ back)
