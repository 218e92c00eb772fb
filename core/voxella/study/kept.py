"""What the runs of a study have kept of their cases: features, head predictions, predictions."""

from __future__ import annotations

from functools import lru_cache
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from voxella.case import Manifest
from voxella.classification.predict import read_predictions
from voxella.errors import UserError
from voxella.evaluation.compared_split import SetSettings
from voxella.evaluation.distances import thinned
from voxella.evaluation.features import FeatureStore
from voxella.evaluation.networks import Network, kind_of, networks_of, seen_by
from voxella.evaluation.sets import Sets, read_sets
from voxella.evaluation.text_head import as_predictions, predictions_of_samples
from voxella.machine import raise_if_machine
from voxella.metrics.declared.number import distance_key
from voxella.metrics.distances.kernel import PatientKernels, patient_kernels
from voxella.metrics.predictions import ClassPredictions, Predictions
from voxella.metrics.vectors import VectorSet
from voxella.study.differences import Draws, frechet_draws, shared_draws
from voxella.study.plan import Plan
from voxella.study.step import Step
from voxella.workspace.folders import Folders

__all__ = ["KeptCases"]

_FEATURES = "features"
# As many as the evaluation's KID takes.
_KID_ROWS = 20_000


class _Asked(TypedDict):
    """What decides a study's draws, beside the patients."""

    seed: int
    name: str
    replicates: int


class KeptCases:
    """Reads what runs have kept, by the names of the plan's steps; each is read once.

    Nothing is made here: what a run has not kept is a UserError or a missing file.

    Args:
        plan: The study.
        device: Where products are computed.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self._plan = plan
        self._device = device
        self._sets = lru_cache(maxsize=None)(self._read_sets)
        self.kernels = lru_cache(maxsize=None)(self._make_kernels)
        self.draws = lru_cache(maxsize=None)(self._make_draws)
        self._network = lru_cache(maxsize=1)(self._make_network)
        # Slices fill a machine's memory: one run's at a time.
        self.vectors = lru_cache(maxsize=1)(self._read_vectors)
        self._drawn: dict[tuple[str, str], NDArray[np.float64]] = {}

    def asked(self, name: str, kind: str) -> _Asked:
        """Return what decides a run's draws, as arguments of :func:`shared_draws`."""
        recipe = self._plan.step(name).recipe
        return {
            # Of all trainings the same draws.
            "seed": recipe.shared_seed,
            "name": f"study/{distance_key('fid', kind)}",
            "replicates": recipe.evaluate.fid_bootstrap,
        }

    def has_draws(self, name: str, kind: str) -> bool:
        """Return whether a run has what its draws are made of."""
        try:
            shared_draws(*self.vectors(name, kind), **self.asked(name, kind))
            return True
        except (UserError, FileNotFoundError) as error:
            raise_if_machine(error)
            return False

    def keep_drawn(self, name: str, kind: str, values: NDArray[np.float64]) -> None:
        """Take FID on the draws of a run, which processes have computed together."""
        self._drawn[name, kind] = values

    def patients(self, name: str) -> int:
        """Return the patients behind the smaller set of a run."""
        _, sets = self._sets(name)
        return min(len({s.group for s in side}) for side in (sets.real, sets.synthetic))

    def head(self, name: str, *, reported: bool) -> Predictions | ClassPredictions | None:
        """Return what a run's text head said of its samples; None where it said nothing."""
        data = self._plan.step(name).recipe.data
        predicted = predictions_of_samples(data.classes, self._sets(name)[1])
        if isinstance(predicted, str):
            return None
        return as_predictions(data, [p for p in predicted if p.has_report or not reported])

    def classifiers(self, name: str) -> list[Predictions | ClassPredictions]:
        """Return the test predictions of each training of a run's classifier."""
        step = self._plan.step(name)
        files = step.metrics.parent.glob("seed-*/predictions.jsonl")
        found = [read_predictions(path, "test") for path in sorted(files)]
        return [one for one in found if one is not None]

    def _read_sets(self, name: str) -> tuple[Folders, Sets]:
        step = self._plan.step(name)
        folders = _folders(step)
        prepared = Manifest.read(folders.prepared)
        return folders, read_sets(SetSettings.of(step.recipe), prepared, step.samples)

    def _make_network(self, kind: str) -> Network:
        # All recipes of a study share their evaluate block.
        recipe = self._plan.steps[0].recipe
        blocks = recipe.evaluate, recipe.data, recipe.prepare
        return next(n for n in networks_of(*blocks, self._device) if kind_of(n) == kind)

    def _read_vectors(self, name: str, kind: str) -> tuple[VectorSet, VectorSet]:
        recipe = self._plan.step(name).recipe
        folders, sets = self._sets(name)
        sequence = recipe.evaluate.sequence or recipe.data.sequences[0]
        at = recipe.channels[sequence]
        seen = seen_by(self._network(kind), at.start, at.stop - at.start)
        real = FeatureStore(folders.work / folders.evaluation.name / _FEATURES)
        synthetic = FeatureStore(folders.evaluation / _FEATURES)
        return (
            real.vectors(seen, sets.real, "real"),
            synthetic.vectors(seen, sets.synthetic, "synthetic"),
        )

    def _make_kernels(self, name: str, kind: str) -> PatientKernels:
        real, synthetic = (thinned(side, _KID_ROWS) for side in self.vectors(name, kind))
        return patient_kernels(real, synthetic, device=self._device)

    def _make_draws(self, name: str, kind: str) -> Draws:
        real, synthetic = self.vectors(name, kind)
        return frechet_draws(
            real,
            synthetic,
            **self.asked(name, kind),
            device=self._device,
            drawn=self._drawn.get((name, kind)),
        )


def _folders(step: Step) -> Folders:
    return Folders.of(step.folder, step.recipe.workspace, step.recipe.data.dataset)
