"""Real and synthetic cases for reader studies, as different in their files as they may be."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxella.case import Case, Manifest
from voxella.imaging.volume import write_volume

SHAPE = (12, 10, 6)
SPACING = (1.0, 1.0, 2.0)
SECRET = "Doe-John-1954"

__all__ = ["SECRET", "SHAPE", "data_sets", "voxels", "write_real", "write_synthetic"]


def voxels(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    """Whole numbers from 0 to 1000: both kinds of file hold them exactly."""
    return np.random.default_rng(seed).integers(0, 1001, shape).astype(np.float32)


def write_real(path: Path, array: NDArray[np.float32], far: float = 40.0) -> Path:
    """A scanner's: float32 in [0, 1], compressed, far from the origin, a name in the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -far, far / 2, 7.5
    image = nib.Nifti1Image(array / 1000, affine)
    image.header["descrip"] = SECRET.encode()
    image.header["cal_max"] = 0.7
    nib.save(image, path)
    return path


def write_synthetic(path: Path, array: NDArray[np.float32]) -> Path:
    """A model's: int16, not compressed, around the origin."""
    return write_volume(path, array.astype(np.int16), np.diag([*SPACING, 1.0]))


def data_sets(folder: Path, real: int = 16, synthetic: int = 14) -> tuple[Manifest, Manifest]:
    """Return synthetic and real cases of two labels; every fourth real case is of training."""
    cases: dict[str, list[Case]] = {"samples": [], "prepared": []}
    for number in range(real):
        name = f"r{number:02d}"
        write_real(folder / "prepared" / f"{name}.nii.gz", voxels(number), far=10.0 * number)
        split = "train" if number % 4 == 0 else ("val", "test")[number % 2]
        label = ("positive", "negative")[number % 3 == 0]
        cases["prepared"].append(
            Case.model_validate(
                {"id": name, "group": f"p{number}", "images": {"t2w": f"{name}.nii.gz"}}
                | {"split": split, "label": label}
            )
        )
    for number in range(synthetic):
        name = f"s{number:02d}"
        write_synthetic(folder / "samples" / f"{name}.nii", voxels(500 + number))
        label = ("positive", "negative")[number % 2]
        # The first two are of one patient.
        group = f"q{max(number, 1)}"
        cases["samples"].append(
            Case(id=name, group=group, images={"t2w": f"{name}.nii"}, label=label)
        )
    made = {name: Manifest(folder / name, found) for name, found in cases.items()}
    for manifest in made.values():
        manifest.write()
    return made["samples"], made["prepared"]
