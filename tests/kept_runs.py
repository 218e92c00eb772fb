"""What evaluated runs of a study leave of their cases, without running anything."""

from __future__ import annotations

import numpy as np
import torch

from voxella.case import Case, Manifest
from voxella.evaluation.compared_split import SetSettings
from voxella.evaluation.extractors import OneSequence
from voxella.evaluation.features import FeatureStore
from voxella.evaluation.networks import feature_networks
from voxella.evaluation.sets import read_sets
from voxella.study.step import Step
from voxella.workspace.folders import Folders


def run_with_features(step: Step, shift: float, cases: int = 12, luck: int = 0) -> None:
    """Leave what an evaluated run has: manifests, volumes (never read here) and features.

    Args:
        step: Of a plan.
        shift: Of the synthetic features from the real ones.
        cases: How many.
        luck: Another number gives other synthetic features.
    """
    folders = Folders.of(step.folder, step.recipe.workspace, step.recipe.data.dataset)
    real = [_real(n) for n in range(cases)]
    counterparts = [_counterpart(case, shift) for case in real]
    for folder, held in ((folders.prepared, real), (folders.samples, counterparts)):
        folder.mkdir(parents=True, exist_ok=True)
        Manifest(folder, held).write()
        for case in held:
            (folder / case.images["t2w"]).write_bytes(f"{case.id} {shift}".encode())
    sets = read_sets(SetSettings.of(step.recipe), Manifest.read(folders.prepared), folders.samples)
    network = feature_networks(step.recipe.evaluate, step.recipe.data, step.recipe.prepare)[0]
    seen = OneSequence(network, 0)
    stores = (
        (FeatureStore(folders.work / "evaluation" / "features"), sets.real, 0.0),
        (FeatureStore(folders.evaluation / "features"), sets.synthetic, shift),
    )
    for store, subjects, by in stores:
        for number, subject in enumerate(subjects):
            draw = np.random.default_rng([number, luck] if by and luck else number)
            rows = torch.from_numpy(draw.normal(by, 1.0, (1, network.dim))).float()
            store.write(seen, subject, rows)


def _real(number: int) -> Case:
    return Case(
        id=f"case-{number:02d}",
        group=f"patient-{number:02d}",
        images={"t2w": f"case-{number:02d}.nii.gz"},
        label=("negative", "positive")[number % 2],
        split="train",
        extra={"spacing_mm": [2.0, 2.0, 3.0], "prepared_sha256": f"{number}"},
    )


def _counterpart(case: Case, shift: float) -> Case:
    positive = 0.9 if (case.label == "positive") == (shift < 1) else 0.1
    extra = {
        "source_case": case.id,
        "prompt_sha256": "0",
        "predicted_probabilities": {"negative": 1 - positive, "positive": positive},
    }
    return case.model_copy(
        update={"id": f"{case.id}-s000", "group": f"synthetic-{case.group}", "extra": extra}
    )
