"""Masks: where the middle of one lies, and by how much that moves the crop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxella.imaging.problem import ImageError
from voxella.imaging.volume import Array, Volume

__all__ = ["crop_shift", "mask_array"]

# A mask's voxels above this belong to it: one label, several, 255, or probabilities.
_LEVEL = 0.5
# Of a voxel. The last bits of an affine must not decide between two whole voxels.
_TIE = 1e-3


def mask_array(volume: Volume) -> Array:
    """Return ``(R, A, S)`` ones where the mask is, zeros elsewhere."""
    return (volume.array > _LEVEL).astype(np.float32)


def crop_shift(
    volume: Volume, crop_mm: Sequence[float | None], mask: Volume, name: str
) -> NDArray[np.float64]:
    """Return by how many voxels of the scan the centre crop moves to lie around a mask.

    Whole voxels: the crop's middle is at most half a voxel from the mask's centre of mass, and a
    scan that already has the wanted spacing is still copied, not interpolated. Axes that are not
    cropped do not move.

    Args:
        volume: The scan.
        crop_mm: Edge of the crop along R, A, S in mm; None for an axis that is not cropped.
        mask: On any grid.
        name: How errors call it.

    Raises:
        ImageError: The mask is empty, or its centre lies outside the scan's field of view.
    """
    centre_mm = _centre_of_mass_mm(mask, name)
    counts = np.asarray(volume.array.shape, dtype=np.float64)
    away = np.linalg.solve(volume.affine, (*centre_mm, 1.0))[:3] - (counts - 1.0) / 2.0
    if (np.abs(away) > counts / 2.0).any():
        where = ", ".join(f"{value:.1f}" for value in centre_mm)
        raise ImageError(
            f"{name}: the mask's centre ({where} mm) is outside the first sequence's field of view",
            code="mask.crop",
        )
    cropped = np.array([edge is not None for edge in crop_mm])
    return np.where(cropped, np.ceil(away - 0.5 - _TIE), 0.0)


def _centre_of_mass_mm(mask: Volume, name: str) -> NDArray[np.float64]:
    inside = mask_array(mask) > 0
    total = int(inside.sum())
    if not total:
        problem = f"{name}: the mask is empty, so there is nothing to crop around"
        raise ImageError(problem, code="mask.crop")
    # Whole numbers until the last step: the sum does not depend on how the mask is stored.
    index = [
        int(inside.sum(axis=tuple({0, 1, 2} - {axis})) @ np.arange(count)) / total
        for axis, count in enumerate(inside.shape)
    ]
    return np.asarray((mask.affine @ (*index, 1.0))[:3], dtype=np.float64)
