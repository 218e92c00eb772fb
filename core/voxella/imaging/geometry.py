"""Grids in millimetres: the centred crop, which voxels lie in it, and resampling onto it.

The crop is centred on the middle of the scan's field of view and its edges run along the scan's own
axes, as in the paper, which crops in the plane of the axial image. An oblique scan is therefore not
straightened: its obliquity stays in the affine.

Everything is computed between voxel indices of the source and of the target. What the two affines
have in common drops out, so the 48 ways to store one scan give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella.imaging.interpolation import Interpolation, sample_any, sample_axes
from voxella.imaging.volume import Affine, Array, Volume

__all__ = ["Grid", "centred_grid", "padding_mm", "resample", "voxels_inside"]

# Indices are rounded to this many decimals of a voxel, so that the last bits of an affine, which
# depend on how a scan happens to be stored, cannot reach an intensity.
_DECIMALS = 9
# Two grids whose axes drift apart by less than this over the whole target are parallel (voxels).
_PARALLEL = 1e-3
# A voxel whose centre lies on the crop's edge counts as inside (voxels).
_EDGE = 1e-6


@dataclass(frozen=True)
class Grid:
    """Where target voxels lie.

    Attributes:
        shape: Voxels along R, A, S.
        affine: ``(4, 4)`` voxel index to RAS+ mm.
    """

    shape: tuple[int, int, int]
    affine: Affine

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Return the voxel's edges along R, A, S in mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0), dtype=np.float64)


def centred_grid(volume: Volume, crop_mm: Sequence[float | None], shape: Sequence[int]) -> Grid:
    """Divide a box around the middle of the field of view into ``shape`` voxels.

    Args:
        volume: The scan; its field of view reaches half a voxel beyond the outermost centres.
        crop_mm: Edge of the box along R, A, S in mm; None keeps the scan's own extent. It may
            exceed the scan, see :func:`padding_mm`.
        shape: Voxels along R, A, S.
    """
    spacing = volume.spacing_mm
    counts = np.asarray(volume.array.shape, dtype=np.float64)
    extent = np.array(
        [
            count if crop is None else crop / edge
            for crop, count, edge in zip(crop_mm, counts, spacing, strict=True)
        ]
    )
    step = extent / np.asarray(shape, dtype=np.float64)
    to_source = np.eye(4)
    to_source[:3, :3] = np.diag(step)
    # Index of the first target centre: half a target voxel inside the box's lower corner.
    to_source[:3, 3] = (counts - 1.0) / 2.0 - extent / 2.0 + step / 2.0
    size = (int(shape[0]), int(shape[1]), int(shape[2]))
    return Grid(size, np.asarray(volume.affine @ to_source, dtype=np.float64))


def padding_mm(volume: Volume, crop_mm: Sequence[float | None]) -> list[float]:
    """Return by how many mm in all the crop exceeds the field of view along R, A, S."""
    extent = volume.spacing_mm * np.asarray(volume.array.shape)
    return [
        0.0 if crop is None else round(max(0.0, crop - float(own)), 4)
        for crop, own in zip(crop_mm, extent, strict=True)
    ]


def voxels_inside(volume: Volume, grid: Grid) -> NDArray[np.float32]:
    """Return the values of the voxels whose centres lie in the grid's box, as one long array."""
    to_grid = np.linalg.inv(_index_map(volume, grid))
    low = -0.5 - _EDGE
    high = np.asarray(grid.shape) - 0.5 + _EDGE
    axes = np.ogrid[tuple(slice(count) for count in volume.array.shape)]
    inside = np.ones((), dtype=bool)
    for row in range(3):
        position = to_grid[row, 3]
        for column in range(3):
            # A zero keeps this axis out of the sum: parallel grids cost three short comparisons.
            if to_grid[row, column] != 0.0:
                position = position + to_grid[row, column] * axes[column]
        inside = inside & (position >= low) & (position <= high[row])
    values: NDArray[np.float32] = volume.array[np.broadcast_to(inside, volume.array.shape)]
    return values


def resample(volume: Volume, grid: Grid, interpolation: Interpolation) -> Array:
    """Return ``(R, A, S)`` values at the grid's voxel centres, 0 outside the field of view.

    Args:
        volume: Already normalised, so that 0 is its darkest value and padding is dark.
        grid: Any grid; it need not be parallel to the scan.
        interpolation: Lanczos is SimpleITK's ``sitkLanczosWindowedSinc`` (radius 5). On a parallel
            grid its kernel is applied one axis at a time, which gives the same numbers some hundred
            times faster.
    """
    to_source = _index_map(volume, grid)
    if interpolation == "lanczos" and _is_diagonal(to_source):
        positions = [
            to_source[axis, axis] * np.arange(count) + to_source[axis, 3]
            for axis, count in enumerate(grid.shape)
        ]
        return sample_axes(volume.array, positions)
    return sample_any(volume.array, to_source, grid.shape, interpolation)


def _index_map(volume: Volume, grid: Grid) -> Affine:
    """Return the ``(4, 4)`` map from the grid's voxel indices to the volume's."""
    exact = np.linalg.solve(volume.affine, grid.affine)
    parallel = np.diag(np.diag(exact[:3, :3]))
    drift = np.abs(exact[:3, :3] - parallel) @ np.asarray(grid.shape, dtype=np.float64)
    if drift.max() < _PARALLEL:
        exact[:3, :3] = parallel
    return np.round(exact, _DECIMALS)


def _is_diagonal(to_source: Affine) -> bool:
    axes = to_source[:3, :3]
    return bool((axes == np.diag(np.diag(axes))).all())
