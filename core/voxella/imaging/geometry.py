"""Grids in millimetres: the crop, which voxels lie in it, and resampling onto it.

The crop's edges run along the scan's own axes, as in the paper, which crops in the plane of the
axial image; so an oblique scan keeps its obliquity, in the affine. Or, straightened, they run along
the scanner's axes, and every voxel of an oblique scan is resampled.

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

__all__ = [
    "Grid",
    "centred_grid",
    "oblique_degrees",
    "padding_mm",
    "resample",
    "share_outside",
    "three_axes",
    "values_at",
    "voxels_inside",
]

# Indices are rounded to this many decimals of a voxel, so that the last bits of an affine, which
# depend on how a scan happens to be stored, cannot reach an intensity.
_DECIMALS = 9
# Two grids whose axes drift apart by less than this over the whole target are parallel (voxels).
_PARALLEL = 1e-3
# A voxel whose centre lies on the crop's edge counts as inside (voxels).
_EDGE = 1e-6
_UNMOVED = (0.0, 0.0, 0.0)


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

    @property
    def middle_mm(self) -> NDArray[np.float64]:
        """Return the middle of the grid in RAS+ mm."""
        index = (np.asarray(self.shape, dtype=np.float64) - 1.0) / 2.0
        return np.asarray((self.affine @ (*index, 1.0))[:3], dtype=np.float64)


def three_axes(size: Sequence[int]) -> tuple[int, ...]:
    """Return voxels along R, A and S; 1 along each axis that ``size`` has not."""
    return (*size, *[1] * (3 - len(size)))


def centred_grid(
    volume: Volume,
    crop_mm: Sequence[float | None],
    shape: Sequence[int],
    *,
    shift: Sequence[float] = _UNMOVED,
    straighten: bool = False,
) -> Grid:
    """Divide a box around the middle of the field of view into ``shape`` voxels.

    Args:
        volume: The scan; its field of view reaches half a voxel beyond the outermost centres.
        crop_mm: Edge of the box along R, A, S in mm; None keeps the scan's own extent. It may
            exceed the scan, see :func:`padding_mm`.
        shape: Voxels along R, A, S.
        shift: By how many of the scan's voxels the box is moved off the middle.
        straighten: Turn the box about its middle until its edges run along the scanner's axes;
            their lengths in mm stay.
    """
    size = np.asarray(shape, dtype=np.float64)
    step = _edges(volume, crop_mm) / size
    to_source = np.eye(4)
    to_source[:3, :3] = np.diag(step)
    if straighten:
        step_mm = np.diag(step * volume.spacing_mm)
        to_source[:3, :3] = np.linalg.solve(volume.affine[:3, :3], step_mm)
    # Index of the first target centre.
    to_source[:3, 3] = _middle(volume, shift) - to_source[:3, :3] @ ((size - 1.0) / 2.0)
    whole = (int(shape[0]), int(shape[1]), int(shape[2]))
    return Grid(whole, np.asarray(volume.affine @ to_source, dtype=np.float64))


def padding_mm(
    volume: Volume, crop_mm: Sequence[float | None], shift: Sequence[float] = _UNMOVED
) -> list[float]:
    """Return by how many mm in all the crop exceeds the field of view along R, A, S.

    Along the scan's own axes; what a straightened box loses at its corners, and what other
    sequences do not reach, is in :func:`share_outside`.
    """
    counts = np.asarray(volume.array.shape, dtype=np.float64)
    edges, middle = _edges(volume, crop_mm), _middle(volume, shift)
    below = np.maximum(-0.5 - (middle - edges / 2.0), 0.0)
    above = np.maximum(middle + edges / 2.0 - (counts - 0.5), 0.0)
    return [round(float(length), 4) for length in (below + above) * volume.spacing_mm]


def _edges(volume: Volume, crop_mm: Sequence[float | None]) -> NDArray[np.float64]:
    """Return the crop's edges in voxels of the scan, fractional."""
    own = zip(crop_mm, volume.array.shape, volume.spacing_mm, strict=True)
    return np.array([float(count) if crop is None else crop / edge for crop, count, edge in own])


def _middle(volume: Volume, shift: Sequence[float]) -> NDArray[np.float64]:
    counts = np.asarray(volume.array.shape, dtype=np.float64)
    return np.asarray((counts - 1.0) / 2.0 + shift, dtype=np.float64)


def oblique_degrees(volume: Volume) -> float:
    """Return the largest angle between an axis of the scan and the scanner's R, A or S."""
    axes = volume.affine[:3, :3]
    along = np.diag(axes)
    aside = np.linalg.norm(axes - np.diag(along), axis=0)
    # Of the tangent, not the cosine, which is flat where the angle is small.
    return float(np.degrees(np.arctan2(aside, along)).max())


def voxels_inside(volume: Volume, grid: Grid) -> NDArray[np.float32]:
    """Return the values of the voxels whose centres lie in the grid's box, as one long array."""
    to_grid = np.asarray(np.linalg.inv(_index_map(volume, grid)), dtype=np.float64)
    inside = _inside(to_grid, volume.array.shape, grid.shape)
    values: NDArray[np.float32] = volume.array[inside]
    return values


def values_at(volume: Volume, grid: Grid, step: int = 1) -> NDArray[np.float32]:
    """Return the scan's voxels that lie nearest to the grid's, as one long array.

    Empty where no voxel of the grid lies in the field of view: whatever is resampled is padding.

    Args:
        volume: The scan.
        grid: Where it is looked at.
        step: Look at every so many voxels of the grid along each axis.
    """
    to_source = _index_map(volume, grid)
    counts = np.asarray(volume.array.shape)
    axes = [np.arange(0, count, step) for count in grid.shape]
    if _is_diagonal(to_source):
        places = [to_source[k, k] * axes[k] + to_source[k, 3] for k in range(3)]
        near = [place[_within(place, counts[k])] for k, place in enumerate(places)]
        index = np.ix_(*(_nearest(place, counts[k]) for k, place in enumerate(near)))
        return np.asarray(volume.array[index]).ravel()
    lattice = np.ix_(*axes)
    rows = [sum(to_source[k, j] * lattice[j] for j in range(3)) + to_source[k, 3] for k in range(3)]
    inside = np.logical_and.reduce([_within(row, counts[k]) for k, row in enumerate(rows)])
    at = tuple(_nearest(row[inside], counts[k]) for k, row in enumerate(rows))
    return np.asarray(volume.array[at])


def _within(places: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    return np.asarray((places >= -0.5 - _EDGE) & (places <= count - 0.5 + _EDGE))


def _nearest(places: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    return np.clip(np.rint(places), 0, count - 1).astype(np.intp)


def share_outside(volume: Volume, grid: Grid) -> float:
    """Return the share of the grid's voxels that lie beyond the scan's field of view."""
    inside = _inside(_index_map(volume, grid), grid.shape, volume.array.shape)
    return 1.0 - float(inside.mean())


def _inside(
    to_other: Affine, shape: Sequence[int], other_shape: Sequence[int]
) -> NDArray[np.bool_]:
    """Tell which voxels of one grid have their centre in the other's box, as a mask of ``shape``.

    Args:
        to_other: ``(4, 4)`` map from the grid's voxel indices to the other's.
        shape: The grid's voxels along each axis.
        other_shape: The other's voxels along each axis.
    """
    low = -0.5 - _EDGE
    high = np.asarray(other_shape) - 0.5 + _EDGE
    axes = np.ogrid[tuple(slice(count) for count in shape)]
    inside = np.ones((), dtype=bool)
    for row in range(3):
        position = to_other[row, 3]
        for column in range(3):
            # A zero keeps this axis out of the sum: parallel grids cost three short comparisons.
            if to_other[row, column] != 0.0:
                position = position + to_other[row, column] * axes[column]
        inside = inside & (position >= low) & (position <= high[row])
    return np.broadcast_to(inside, tuple(shape))


def resample(volume: Volume, grid: Grid, interpolation: Interpolation) -> Array:
    """Return ``(R, A, S)`` values at the grid's voxel centres, 0 outside the field of view.

    Args:
        volume: Already normalised, so that 0 is its darkest value and padding is dark.
        grid: Any grid; it need not be parallel to the scan.
        interpolation: Nearest is for masks. Lanczos is SimpleITK's ``sitkLanczosWindowedSinc``
            (radius 5). On a parallel grid its kernel is applied one axis at a time, which gives
            the same numbers some hundred times faster.
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
