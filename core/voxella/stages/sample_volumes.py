"""Synthetic volumes on the disk: each with the record that it is whole, all with a manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxella.case import Case, Manifest
from voxella.files import write_json_atomic
from voxella.generate import Generated
from voxella.imaging.montage import montage, write_png
from voxella.imaging.volume import read_volume, write_volume
from voxella.plugins.contracts import Autoencoder
from voxella.recipe.model import Recipe
from voxella.stages.folders import Folders

__all__ = ["SampleJob", "is_done", "keep_volume", "write_dataset"]

_MONTAGE_CASES = 8


@dataclass(frozen=True)
class SampleJob:
    """One volume to make.

    Attributes:
        case: The source case.
        sample_id: Names which of its twins.
        decides_sha256: Hash of everything that decides the volume.
    """

    case: Case
    sample_id: str
    decides_sha256: str


def keep_volume(
    recipe: Recipe,
    folders: Folders,
    job: SampleJob,
    made: Generated,
    number: int,
    autoencoder: Autoencoder,
    origin: dict[str, Any],
) -> None:
    """Decode one latent and write its volumes, then the record that says it is whole.

    Args:
        recipe: The experiment.
        folders: Of the run.
        job: Which volume it is.
        made: A batch of latents with what was predicted of them.
        number: The latent's place in the batch.
        autoencoder: What decodes it.
        origin: What the manifest says of how all volumes were made.

    Raises:
        UserError: Its intensities do not fit into int16.
    """
    with torch.no_grad():
        # One at a time: decoding takes far more memory than sampling.
        decoded = autoencoder.decode(made.latents[number : number + 1])
    channels = decoded[0].float().clamp(0, 1).cpu().numpy()
    spacing = [float(mm) for mm in job.case.extra["spacing_mm"]]
    images = {}
    for sequence, channel in zip(recipe.data.sequences, channels, strict=True):
        relative = f"volumes/{job.sample_id}_{sequence}.nii.gz"
        scale = recipe.sample.int16_scale
        # Wide integers: write_volume refuses what int16 cannot hold, a cast would wrap it.
        array = channel if scale is None else np.rint(channel * scale).astype(np.int64)
        write_volume(folders.samples / relative, array, _affine(array.shape, spacing))
        images[sequence] = relative
    twin = Case(
        id=job.sample_id,
        patient=f"synthetic-{job.case.patient}",
        images=images,
        label=job.case.label,
        label_source=None if job.case.label is None else "given",
        split=job.case.split,
        extra={
            "synthetic": True,
            "source_case": job.case.id,
            "spacing_mm": spacing,
            "prompt_sha256": job.case.report_sha256,
            **_prediction(recipe, made, number),
            **origin,
        },
    )
    write_json_atomic(
        _sidecar(folders.samples, job),
        {"decides_sha256": job.decides_sha256, "case": twin.model_dump(mode="json")},
    )


def _prediction(recipe: Recipe, made: Generated, number: int) -> dict[str, Any]:
    """Return what the text head says of the prompt, or nothing for models without one."""
    if made.class_probabilities is None:
        return {"predicted_label": None, "predicted_probability": None}
    probabilities = made.class_probabilities[number].cpu()
    best = int(probabilities.argmax())
    return {
        "predicted_label": recipe.data.classes[best],
        "predicted_probability": round(float(probabilities[best]), 6),
    }


def _affine(
    shape: Sequence[int], spacing: Sequence[float]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a RAS affine, the volume's centre at the origin: nobody lay in a scanner."""
    affine = np.eye(4)
    for axis, (count, mm) in enumerate(zip(shape, spacing, strict=True)):
        affine[axis, axis] = mm
        affine[axis, 3] = -mm * (count - 1) / 2
    return affine


def _sidecar(samples: Path, job: SampleJob) -> Path:
    return samples / "volumes" / f"{job.sample_id}.json"


def is_done(samples: Path, job: SampleJob) -> bool:
    """Tell whether a volume is there, whole, and made of what it would be made of now."""
    try:
        known = json.loads(_sidecar(samples, job).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    if known.get("decides_sha256") != job.decides_sha256:
        return False
    return all((samples / path).is_file() for path in known["case"]["images"].values())


def write_dataset(recipe: Recipe, folders: Folders, jobs: list[SampleJob]) -> None:
    """Write the manifest of the volumes that stand there whole, and a picture of the first."""
    cases = [
        Case.model_validate(json.loads(_sidecar(folders.samples, job).read_text())["case"])
        for job in jobs
    ]
    manifest = Manifest(folders.samples, cases)
    manifest.write()
    shown = cases[:_MONTAGE_CASES]
    first = recipe.data.sequences[0]
    volumes = [read_volume(manifest.image_path(case, first)).array for case in shown]
    spacings = [case.extra["spacing_mm"] for case in shown]
    white = recipe.sample.int16_scale or 1.0
    picture = montage(volumes, spacings, window=(0.0, white))
    write_png(folders.samples / "montage.png", picture)
