"""A hospital of invented volumes, prepared by hand, and synthetic data sets to hold against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest, Split
from voxella.files import write_json_atomic
from voxella.imaging.volume import write_volume
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe

CCELLA = str(REPOSITORY / "recipes" / "ccella.yaml")
SPACING_MM = (8.0, 8.0, 6.0)
QUICK = (
    *("evaluate.bootstrap=20", "evaluate.fid_bootstrap=4", "evaluate.baseline_halves=4"),
    *("evaluate.ms_ssim_pairs=3", "evaluate.feature_dim=4", "observers=[]"),
)
Array = NDArray[np.float32]
Change = Callable[[Array], NDArray[Any]]


def anatomy(seed: int) -> Array:
    """A volume in [0, 1]: what all patients share, and what one has alone."""
    shared = np.random.default_rng(999).uniform(0.2, 0.8, (4, 4, 4))
    own = np.random.default_rng(seed).normal(0, 0.15, (8, 8, 8))
    values = zoom(shared, 4, order=1) + zoom(own, 2, order=1)
    return np.asarray(np.clip(values, 0, 1), dtype=np.float32)


def affine(spacing_mm: Sequence[float] = SPACING_MM) -> NDArray[np.float64]:
    return np.diag([*spacing_mm, 1.0])


class Hospital:
    """Prepared real cases in a workspace.

    Args:
        folder: The workspace.
        train: Cases in that split.
        test: The same.
        val: The same.
        thickness: Slices kept of each volume.
    """

    def __init__(
        self, folder: Path, train: int = 14, test: int = 8, val: int = 2, thickness: int = 16
    ) -> None:
        self.thickness = thickness
        self.folder = folder
        self.prepared = folder / "prepared"
        sizes: dict[Split, int] = {"train": train, "test": test, "val": val}
        splits = [split for split, size in sizes.items() for _ in range(size)]
        cases = [self._admit(number, split) for number, split in enumerate(splits)]
        Manifest(self.prepared, cases).write()
        write_json_atomic(self.prepared / "stage.json", {"inputs_sha256": "by hand"})

    def _admit(self, number: int, split: Split) -> Case:
        name = f"case-{number:02d}"
        kept = anatomy(number)[:, :, : self.thickness]
        write_volume(self.prepared / f"{name}.nii.gz", kept, affine())
        return Case(
            id=name,
            group=f"patient-{number:02d}",
            images={"t2w": f"{name}.nii.gz"},
            label=("negative", "positive")[number % 2],
            split=split,
            extra={"spacing_mm": list(SPACING_MM)},
        )

    def recipe(self, *overrides: str) -> Recipe:
        settings = [f"workspace={self.folder}", *QUICK, *overrides]
        return load_recipe(CCELLA, ["smoke"], settings)

    def cases(self, split: str) -> list[Case]:
        return Manifest.read(self.prepared).split(split)

    def volume(self, case: Case) -> Array:
        return anatomy(int(case.id.removeprefix("case-")))


def synthetic(
    hospital: Hospital,
    folder: Path,
    sources: Sequence[Case],
    *,
    make: Callable[[Case], NDArray[Any]] | None = None,
    extra: Callable[[Case], dict[str, Any]] = lambda case: {},
    spacing_mm: Sequence[float] = SPACING_MM,
) -> Path:
    """Write a synthetic data set, one volume for each source; by default of patients never seen."""
    make = make or (lambda case: anatomy(5000 + int(case.id[-2:])))
    counterparts = []
    for source in sources:
        name = f"{source.id}-s000"
        write_volume(folder / "volumes" / f"{name}.nii.gz", make(source), affine(spacing_mm))
        counterparts.append(
            Case(
                id=name,
                group=f"synthetic-{source.group}",
                images={"t2w": f"volumes/{name}.nii.gz"},
                label=source.label,
                split=source.split,
                extra={
                    "synthetic": True,
                    "source_case": source.id,
                    "spacing_mm": list(SPACING_MM),
                    **extra(source),
                },
            )
        )
    Manifest(folder, counterparts).write()
    return folder
