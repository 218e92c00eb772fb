"""Synthetic volumes on the disk: each with the record that it is whole, all with a manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from voxella.case import Case, Manifest
from voxella.case_fields import spacing_of, stored_window
from voxella.data.pseudonyms import Pseudonyms
from voxella.files import write_json_atomic
from voxella.imaging.intensity import in_unit
from voxella.imaging.montage import enlarged, montage, write_png
from voxella.imaging.volume import Affine, read_image
from voxella.imaging.write import is_picture, write_image
from voxella.recipe.model import Recipe
from voxella.recipe.sampling import Sample
from voxella.sampling.networks import GeneratedImage
from voxella.sampling.space import Scans, placed
from voxella.sampling.told import told_of
from voxella.workspace.folders import Folders
from voxella.workspace.state import StateFile, sealed

__all__ = [
    "SampleJob",
    "SampleSet",
    "drop_real_names",
    "is_done",
    "keep_volume",
    "source_name",
    "write_dataset",
]

_MONTAGE_CASES = 8
_MONTAGE_COLUMNS = 4
# Small volumes are shown enlarged to about this width.
_MONTAGE_PIXELS = 640


class _Made(TypedDict):
    decides_sha256: str
    case: dict[str, Any]


Window = tuple[float, float]
_MADE: StateFile[_Made] = StateFile(_Made, "rm {path}, then voxella sample RECIPE makes it again")


@dataclass(frozen=True)
class SampleJob:
    """One volume to make.

    Attributes:
        case: The source case.
        sample_id: Names which of its counterparts; seeds its noise, and stays in this process.
        name: Its id in the synthetic data set, under a pseudonym.
        decides_sha256: Hash of everything that decides the volume, under the pseudonym.
    """

    case: Case
    sample_id: str
    name: str
    decides_sha256: str


@dataclass(frozen=True)
class SampleSet:
    """One data set in the making.

    Attributes:
        recipe: The experiment.
        folders: Of the run.
        out: The data set's folder.
        origin: What the manifest says of how all volumes were made.
        scans: Whose grids the volumes are put on, where the recipe asks for that.
        names: What stands for real ids.
    """

    recipe: Recipe
    folders: Folders
    out: Path
    origin: dict[str, Any]
    scans: Scans
    names: Pseudonyms

    def quantity(self, sequence: str) -> Window | None:
        """Return the numbers that 0 and 1 become of a sequence that is written in its unit."""
        rule = self.origin.get("intensity", {}).get(sequence)
        return None if rule is None else (float(rule["window"][0]), float(rule["window"][1]))


def keep_volume(
    data_set: SampleSet,
    job: SampleJob,
    made: GeneratedImage,
) -> None:
    """Write a decoded volume, then the record that says it is whole.

    Args:
        data_set: What it belongs to.
        job: Which volume it is.
        made: Its image by sequence of the recipe, with what was predicted.

    Raises:
        UserError: Its intensities do not fit into int16.
    """
    recipe, out = data_set.recipe, data_set.out
    # First: the record of an earlier volume must not stand for this one after a kill.
    _sidecar(out, job).unlink(missing_ok=True)
    images = {}
    edges = spacing_of(job.case.extra)
    picture = False
    onto_scan = None if recipe.sample.space == "prepared" else recipe.prepare.interpolation
    for sequence, channels in recipe.channels.items():
        parts = [
            placed(one, job.case, sequence, data_set.scans, onto_scan)
            for one in made.array[channels]
        ]
        name = f"volumes/{job.name}_{sequence}"
        array, affine = np.stack([part for part, _ in parts]), parts[0][1]
        # Of what is written: on a scan's grid a tile has three axes.
        picture = is_picture(array, edges)
        window, told = data_set.quantity(sequence), recipe.sample
        images[sequence] = _write(told, out, name, array, affine, window, picture=picture)
    counterpart = Case(
        id=job.name,
        group=_patient(data_set.names, job.case),
        images=images,
        label=job.case.label,
        label_source=job.case.label_source,
        split=job.case.split,
        conditions={n: v for n, v in job.case.conditions.items() if n in recipe.conditions},
        extra={
            "synthetic": True,
            "source_case": source_name(data_set.names, job.case),
            **({} if edges is None else {"spacing_mm": list(edges)}),
            "prompt_sha256": data_set.names.report(job.case.text_sha256(recipe.text_source)),
            **told_of(job.case, recipe.data.classes, made),
            **data_set.origin,
            **(_of_a_picture(data_set.origin) if picture else {}),
        },
    )
    write_json_atomic(
        _sidecar(out, job),
        sealed({"decides_sha256": job.decides_sha256, "case": counterpart.model_dump(mode="json")}),
    )


def _of_a_picture(origin: dict[str, Any]) -> dict[str, Any]:
    """Return what is otherwise of a picture: it says itself what its white is."""
    return {"int16_scale": None, **({"intensity": {}} if "intensity" in origin else {})}


def _write(
    settings: Sample,
    out: Path,
    name: str,
    array: NDArray[np.float32],
    affine: Affine,
    window: Window | None,
    *,
    picture: bool,
) -> str:
    """Write one image ``(C, *spatial)`` in [0, 1] and return its path below ``out``.

    It is written in its unit where ``window`` says what 0 and 1 are in that.
    """
    if picture:
        write_image(out / f"{name}.png", array, affine)
        return f"{name}.png"
    scale = settings.int16_scale
    if window is not None:
        array = in_unit(array, window, whole=scale is not None)
    elif scale is not None:
        # Wide integers: write_volume refuses what int16 cannot hold, a cast would wrap it.
        whole = np.floor if settings.int16_rounding == "down" else np.rint
        array = whole(array * scale).astype(np.int64)
    write_image(out / f"{name}.nii.gz", array, affine)
    return f"{name}.nii.gz"


def source_name(names: Pseudonyms, case: Case) -> str:
    """Return what stands for a volume's source; a prompt has a name that the user chose for it."""
    return case.id if _is_prompt(case) else names.case(case.id)


def _patient(names: Pseudonyms, case: Case) -> str:
    return f"synthetic-{case.group}" if _is_prompt(case) else names.patient(case.group)


def _is_prompt(case: Case) -> bool:
    return not case.images


def _sidecar(samples: Path, job: SampleJob) -> Path:
    return samples / "volumes" / f"{job.name}.json"


def is_done(samples: Path, job: SampleJob) -> bool:
    """Return whether a volume is there, whole, and made of what it would be made of now."""
    known = _MADE.read_or_remake(_sidecar(samples, job))
    if known is None or known["decides_sha256"] != job.decides_sha256:
        return False
    return all((samples / path).is_file() for path in _case(known).images.values())


def _case(known: _Made) -> Case:
    return Case.model_validate(known["case"])


def drop_real_names(samples: Path, jobs: Sequence[SampleJob]) -> None:
    """Remove volumes that a version before pseudonyms has written under the ids of real cases."""
    real = {job.sample_id for job in jobs if job.sample_id != job.name}
    for path in (samples / "volumes").glob("*"):
        stem = re.match(r"(.+-s\d+)[_.]", path.name)
        if stem is not None and stem[1] in real:
            path.unlink(missing_ok=True)


def write_dataset(out: Path, jobs: list[SampleJob], first: str) -> None:
    """Write the manifest of the volumes that stand there whole, and a picture of some.

    Args:
        out: The data set's folder.
        jobs: Its volumes.
        first: The sequence that the picture shows.
    """
    made = [_MADE.read(_sidecar(out, job)) for job in jobs]
    cases = [_case(known) for known in made if known is not None]
    manifest = Manifest(out, cases)
    manifest.write(parquet_above=None)
    shown = cases[:_MONTAGE_CASES]
    images = [read_image(manifest.image_path(case, first)) for case in shown]
    arrays = [image.array for image in images]
    black, white = stored_window(shown[0].extra if shown else {}, first)
    spacings = [image.first.spacing_mm.tolist() for image in images]
    window = (black, white * images[0].white if images else 1.0)
    # A volume's three planes fill a row; of single slices several stand beside each other.
    flat = all(array.shape[-1] == 1 for array in arrays)
    columns = _MONTAGE_COLUMNS if flat else 1
    picture = montage(arrays, spacings, columns=columns, window=window)
    write_png(out / "montage.png", enlarged(picture, _MONTAGE_PIXELS))
