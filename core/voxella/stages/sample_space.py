"""Where a synthetic volume lies: around the origin, or on the grid of its case's own scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxella.case import Case, Manifest
from voxella.imaging.geometry import Grid, resample
from voxella.imaging.volume import Affine, Volume, read_volume
from voxella.recipe.model import Recipe
from voxella.stages.folders import Folders

__all__ = ["placed"]


def placed(
    recipe: Recipe, folders: Folders, case: Case, sequence: str, array: NDArray[Any]
) -> tuple[NDArray[Any], Affine]:
    """Return a generated image as it is to be written, and its affine.

    Args:
        recipe: Its ``sample.space`` decides: ``prepared`` keeps the grid, ``source`` resamples to
            the voxels of the case's scan, in RAS order, 0 outside the crop.
        folders: Of the run.
        case: Whose twin it is.
        sequence: Which image of the case.
        array: ``(R, A, S)`` in [0, 1], on the prepared grid.

    Raises:
        UserError: The scan is not there any more.
    """
    spacing = [float(mm) for mm in case.extra["spacing_mm"]]
    if recipe.sample.space == "prepared":
        return array, _around_the_origin(array.shape, spacing)
    prepared = Manifest.read(folders.prepared)
    twin_of = next(other for other in prepared if other.id == case.id)
    affine = nib.load(prepared.image_path(twin_of, sequence)).affine
    dataset = Manifest.read(folders.dataset)
    original = next(other for other in dataset if other.id == case.id)
    scan = read_volume(dataset.image_path(original, sequence))
    grid = Grid(scan.array.shape, scan.affine)
    values = np.asarray(array, dtype=np.float32)
    on_grid = resample(Volume(values, affine), grid, recipe.prepare.interpolation)
    # Lanczos overshoots at edges.
    return np.clip(on_grid, 0.0, 1.0), scan.affine


def _around_the_origin(shape: Sequence[int], spacing: Sequence[float]) -> Affine:
    """Return a RAS affine, the volume's centre at the origin: nobody lay in a scanner."""
    affine = np.eye(4)
    for axis, (count, mm) in enumerate(zip(shape, spacing, strict=True)):
        affine[axis, axis] = mm
        affine[axis, 3] = -mm * (count - 1) / 2
    return affine
