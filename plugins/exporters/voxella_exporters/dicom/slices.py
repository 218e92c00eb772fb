"""A volume as DICOM's slices: which axis is cut, how rows and columns run, where each lies."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxella.imaging.volume import Affine, Array, Volume

__all__ = ["Slices", "cut"]

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Where columns, rows and slices run by the axis that is cut (of R, A, S): as radiologists look at
# sagittal, coronal and axial slices. All are right-handed, so slices run along the normal.
_CODES = (("P", "I", "R"), ("L", "I", "P"), ("L", "P", "S"))
# Edges that differ by less are equal; then slices are axial.
_EQUAL = 1e-3


@dataclass(frozen=True)
class Slices:
    """Slices of one volume.

    Attributes:
        voxels: ``(slices, rows, columns)``.
        row: Unit vector along a row (increasing column), LPS.
        column: Unit vector along a column (increasing row), LPS.
        step_mm: From one slice to the next, LPS.
        origin_mm: Centre of the first slice's first pixel, LPS.
        spacing_mm: Between rows and between columns.
    """

    voxels: Array
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    step_mm: NDArray[np.float64]
    origin_mm: NDArray[np.float64]
    spacing_mm: tuple[float, float]

    @property
    def between_mm(self) -> float:
        """Return the distance of two slices' centres."""
        return float(np.linalg.norm(self.step_mm))

    def position_mm(self, index: int) -> NDArray[np.float64]:
        """Return the centre of a slice's first pixel, LPS."""
        return np.asarray(self.origin_mm + index * self.step_mm, dtype=np.float64)


def cut(volume: Volume) -> Slices:
    """Cut a volume across its longest voxel edge, as it was most likely scanned.

    Args:
        volume: ``(R, A, S)``; a single slice is cut along the axis of one voxel.
    """
    axis = _axis(volume)
    target = nib.orientations.axcodes2ornt(_CODES[axis])
    turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(np.eye(4)), target)
    turned = nib.orientations.apply_orientation(volume.array, turn)
    affine: Affine = (
        _RAS_TO_LPS @ volume.affine @ nib.orientations.inv_ornt_aff(turn, volume.array.shape)
    )
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    return Slices(
        # (columns, rows, slices) to (slices, rows, columns).
        np.ascontiguousarray(turned.transpose(2, 1, 0)),
        affine[:3, 0] / edges[0],
        affine[:3, 1] / edges[1],
        affine[:3, 2],
        affine[:3, 3],
        (float(edges[1]), float(edges[0])),
    )


def _axis(volume: Volume) -> int:
    flat = [axis for axis, count in enumerate(volume.array.shape) if count == 1]
    if len(flat) == 1:
        return flat[0]
    edges = volume.spacing_mm
    return 2 if edges.max() <= edges[2] * (1 + _EQUAL) else int(edges.argmax())
