"""Masks held against the grid of the image that they belong to, from the headers alone."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError

from voxella.errors import UserError
from voxella.imaging.headers import image_suffix
from voxella.imaging.volume import Affine
from voxella.machine import raise_if_machine

__all__ = ["Grid", "off_grid", "read_grid"]

Grid = tuple[tuple[int, ...], Affine]
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_grid(path: Path) -> Grid:
    """Return shape and ``(4, 4)`` voxel index to RAS+ mm, in the file's own axis order.

    A NIfTI file's sform counts, or its qform where it has no sform, as nibabel has it.

    Raises:
        UserError: The header cannot be read, or is not that of a 3D image.
    """
    try:
        nifti = str(image_suffix(path)).startswith(".nii")
        shape, affine = _nifti_grid(path) if nifti else _itk_grid(path)
    except (OSError, RuntimeError, ValueError, EOFError, ImageFileError) as bad:
        raise_if_machine(bad, path)
        raise UserError(f"{path}: its header cannot be read") from bad
    if len(shape) != 3:
        raise UserError(f"{path}: {len(shape)}D, where 3D is needed")
    return shape, affine


def off_grid(mask: Grid, image: Grid, tolerance_mm: float) -> str | None:
    """Return how a mask's grid differs from its image's; None: it does not, within tolerance.

    Affines are stored as float32 and as quaternions, and some tools write them with less care, so
    they are never quite equal. What counts is how far any corner voxel of the mask lies from where
    the image has it.
    """
    if mask[0] != image[0]:
        return "another number of voxels"
    corners = np.array([(*corner, 1.0) for corner in product(*((0, n - 1) for n in image[0]))])
    apart = np.linalg.norm((corners @ (mask[1] - image[1]).T)[:, :3], axis=1)
    farthest = float(apart.max())
    # Also true of NaN.
    return None if farthest <= tolerance_mm else f"more than {tolerance_mm:g} mm apart"


def _nifti_grid(path: Path) -> Grid:
    image = nib.load(path)
    return tuple(int(size) for size in image.shape), np.asarray(image.affine, dtype=np.float64)


def _itk_grid(path: Path) -> Grid:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size = tuple(int(count) for count in reader.GetSize())
    lps = np.eye(4)
    axes = len(size)
    if axes == 3:
        direction = np.asarray(reader.GetDirection(), dtype=np.float64).reshape(axes, axes)
        lps[:3, :3] = direction * np.asarray(reader.GetSpacing(), dtype=np.float64)
        lps[:3, 3] = reader.GetOrigin()
    return size, np.asarray(_LPS_TO_RAS @ lps, dtype=np.float64)
