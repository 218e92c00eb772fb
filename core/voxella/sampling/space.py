"""Where a synthetic volume lies: around the origin, or on the grid of its case's own scan."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxella.case import Case, Manifest
from voxella.case_fields import spacing_of
from voxella.errors import UserError
from voxella.imaging.geometry import Grid, resample
from voxella.imaging.volume import Affine, Volume, read_image
from voxella.recipe.inputs import Interpolation
from voxella.workspace.folders import Folders

__all__ = ["Scans", "around_the_origin", "placed"]


class Scans:
    """The scans of a run's cases; their manifest is read once, when the first is asked for.

    Args:
        folders: Of the run.
    """

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    @cached_property
    def _paths(self) -> dict[str, dict[str, Path]]:
        dataset = Manifest.read(self._folders.dataset)
        return {
            case.id: {name: dataset.image_path(case, name) for name in case.images}
            for case in dataset
        }

    def read(self, case: Case, sequence: str) -> Volume:
        """Return a case's scan as it was imported.

        Raises:
            UserError: The scan is not there any more.
        """
        path = self._paths.get(case.id, {}).get(sequence)
        if path is None:
            raise UserError(
                f"case {case.id} is no longer in {self._folders.dataset} with a {sequence} image: "
                "its grid, which sample.space=source asks for, is not known",
                remedy="--set sample.space=prepared",
            )
        # Its grid alone counts, which colours share.
        return read_image(path).first

    def prepared_affine(self, case: Case, sequence: str) -> Affine:
        """Return where a case's prepared volume lies."""
        return read_image(self._folders.prepared / case.images[sequence]).first.affine


def placed(
    array: NDArray[Any], case: Case, sequence: str, scans: Scans, onto_scan: Interpolation | None
) -> tuple[NDArray[Any], Affine]:
    """Return a generated image as it is to be written, and its affine.

    Args:
        array: ``(R, A, S)`` in [0, 1], on the prepared grid.
        case: Whose counterpart it is, as prepared.
        sequence: Which image of the case.
        scans: Of the run.
        onto_scan: How to resample to the voxels of the case's scan, in RAS order, 0 outside the
            crop; None keeps the grid.

    Raises:
        UserError: The scan is not there any more.
    """
    if onto_scan is None:
        return array, around_the_origin(array.shape, spacing_of(case.extra) or (1.0,) * array.ndim)
    scan = scans.read(case, sequence)
    grid = Grid(scan.array.shape, scan.affine)
    made = Volume(np.asarray(array, dtype=np.float32), scans.prepared_affine(case, sequence))
    on_grid = resample(made, grid, onto_scan)
    # Lanczos overshoots at edges.
    return np.clip(on_grid, 0.0, 1.0), scan.affine


def around_the_origin(shape: Sequence[int], spacing: Sequence[float]) -> Affine:
    """Return a RAS affine, the volume's centre at the origin: nobody lay in a scanner."""
    affine = np.eye(4)
    for axis, (count, mm) in enumerate(zip(shape, spacing, strict=True)):
        affine[axis, axis] = mm
        affine[axis, 3] = -mm * (count - 1) / 2
    return affine
