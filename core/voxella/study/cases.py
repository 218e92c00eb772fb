"""The cases behind a study's numbers: two runs compared case by case, where both kept theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from voxella.case import Manifest
from voxella.classification.predict import read_predictions
from voxella.engine.runtime import all_gather_object
from voxella.errors import UserError
from voxella.evaluation.compared_split import SetSettings
from voxella.evaluation.distances import thinned
from voxella.evaluation.draws import shared_values
from voxella.evaluation.features import FeatureStore
from voxella.evaluation.networks import Network, kind_of, networks_of, seen_by
from voxella.evaluation.sets import Sets, read_sets
from voxella.evaluation.text_head import as_predictions, predictions_of_samples
from voxella.machine import raise_if_machine
from voxella.metrics.declared.lookup import number_of
from voxella.metrics.declared.number import distance_key, kind_in
from voxella.metrics.estimate import Estimate
from voxella.metrics.kernel import PatientKernels, patient_kernels
from voxella.metrics.predictions import ClassPredictions, Predictions
from voxella.metrics.vectors import VectorSet
from voxella.ranks import Ranks
from voxella.study.claims import Comparison
from voxella.study.differences import (
    Draws,
    frechet_difference,
    frechet_draws,
    kernel_difference,
    shared_draws,
)
from voxella.study.plan import Plan, Step
from voxella.study.prediction_differences import COMPARED, prediction_difference
from voxella.workspace.folders import Folders

__all__ = ["StudyCases"]

_FEATURES = "features"
_TEXT, _WITH_REPORT = "text_", "_with_report"
# As many as the evaluation's KID takes.
_KID_ROWS = 20_000
Way = Callable[[Comparison], Estimate | None]


class _Asked(TypedDict):
    """What decides a study's draws, beside the patients."""

    seed: int
    name: str
    replicates: int


class StudyCases:
    """Answers comparisons from features, head predictions and predictions that the runs have kept.

    What one recipe contributes is computed once and serves all of its comparisons. Nothing is made
    here: a run without its features is compared by its interval.

    Args:
        plan: The study.
        device: Where products are computed.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self._plan = plan
        self._device = device
        self._sets = lru_cache(maxsize=None)(self._read_sets)
        self._kernels = lru_cache(maxsize=None)(self._make_kernels)
        self._draws = lru_cache(maxsize=None)(self._make_draws)
        self._network = lru_cache(maxsize=1)(self._make_network)
        # Slices fill a machine's memory: one recipe's at a time.
        self._vectors = lru_cache(maxsize=1)(self._read_vectors)
        self._drawn: dict[tuple[str, str], NDArray[np.float64]] = {}

    def share_draws(self, wanted: Iterable[Comparison], ranks: Ranks) -> None:
        """Compute FID on draws for some comparisons, each process its part; collective.

        Args:
            wanted: The same on every process.
            ranks: Who share the draws.
        """
        of = {
            (name, kind_in(comparison.metric))
            for comparison in wanted
            for name in (comparison.left, comparison.right)
            if number_of(comparison.metric).family == "fid"
        }
        for name, kind in sorted(of):
            if all(all_gather_object(self._has_draws(name, kind))):
                real, synthetic = self._vectors(name, kind)
                asked = self._asked(name, kind)
                draws = shared_draws(real, synthetic, **asked)
                what = f"study: draws of {distance_key('fid', kind)}, {name}"
                self._drawn[name, kind] = shared_values(
                    real, synthetic, draws, asked["replicates"], ranks, what=what
                )

    def difference(self, comparison: Comparison) -> Estimate | None:
        """Return left minus right from the cases, or None where they are not there."""
        ways: dict[str, Way] = {
            "kid": self._kid,
            "fid": self._fid,
            "text": self._text,
            "downstream": self._classifiers,
        }
        way = ways.get(number_of(comparison.metric).family)
        return None if way is None else _if_possible(way, comparison)

    def _kid(self, comparison: Comparison) -> Estimate:
        kind = kind_in(comparison.metric)
        left, right = (self._kernels(name, kind) for name in (comparison.left, comparison.right))
        return kernel_difference(left, right, level=self._level(comparison))

    def _fid(self, comparison: Comparison) -> Estimate | None:
        kind = kind_in(comparison.metric)
        left, right = (self._draws(name, kind) for name in (comparison.left, comparison.right))
        n = min(self._patients(name) for name in (comparison.left, comparison.right))
        return frechet_difference(left, right, n=n, level=self._level(comparison))

    def _text(self, comparison: Comparison) -> Estimate | None:
        metric = comparison.metric.removeprefix(_TEXT)
        reported = metric.endswith(_WITH_REPORT)
        metric = metric.removesuffix(_WITH_REPORT)
        if metric not in COMPARED:
            return None
        sides = (comparison.left, comparison.right)
        left, right = (self._head(name, reported=reported) for name in sides)
        if left is None or right is None:
            return None
        return self._compared(comparison, metric, [left], [right])

    def _classifiers(self, comparison: Comparison) -> Estimate | None:
        if comparison.metric not in COMPARED:
            return None
        left, right = (self._trainings(name) for name in (comparison.left, comparison.right))
        if not left or not right:
            return None
        return self._compared(comparison, comparison.metric, left, right)

    def _compared(
        self,
        comparison: Comparison,
        metric: str,
        left: list[Predictions | ClassPredictions],
        right: list[Predictions | ClassPredictions],
    ) -> Estimate:
        recipe = self._plan.step(comparison.left).recipe
        return prediction_difference(
            metric,
            left,
            right,
            seed=recipe.seed,
            replicates=recipe.evaluate.bootstrap,
            level=recipe.evaluate.level,
        )

    def _level(self, comparison: Comparison) -> float:
        return self._plan.step(comparison.left).recipe.evaluate.level

    def _read_sets(self, name: str) -> tuple[Folders, Sets]:
        step = self._plan.step(name)
        folders = _folders(step)
        prepared = Manifest.read(folders.prepared)
        return folders, read_sets(SetSettings.of(step.recipe), prepared, step.samples)

    def _patients(self, name: str) -> int:
        _, sets = self._sets(name)
        return min(len({s.group for s in side}) for side in (sets.real, sets.synthetic))

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
        real, synthetic = (thinned(side, _KID_ROWS) for side in self._vectors(name, kind))
        return patient_kernels(real, synthetic, device=self._device)

    def _make_draws(self, name: str, kind: str) -> Draws:
        real, synthetic = self._vectors(name, kind)
        return frechet_draws(
            real,
            synthetic,
            **self._asked(name, kind),
            device=self._device,
            drawn=self._drawn.get((name, kind)),
        )

    def _has_draws(self, name: str, kind: str) -> bool:
        try:
            shared_draws(*self._vectors(name, kind), **self._asked(name, kind))
            return True
        except (UserError, FileNotFoundError) as error:
            raise_if_machine(error)
            return False

    def _asked(self, name: str, kind: str) -> _Asked:
        recipe = self._plan.step(name).recipe
        return {
            "seed": recipe.seed,
            "name": f"study/{distance_key('fid', kind)}",
            "replicates": recipe.evaluate.fid_bootstrap,
        }

    def _head(self, name: str, *, reported: bool) -> Predictions | ClassPredictions | None:
        data = self._plan.step(name).recipe.data
        predicted = predictions_of_samples(data.classes, self._sets(name)[1])
        if isinstance(predicted, str):
            return None
        return as_predictions(data, [p for p in predicted if p.has_report or not reported])

    def _trainings(self, name: str) -> list[Predictions | ClassPredictions]:
        step = self._plan.step(name)
        files = step.metrics.parent.glob("seed-*/predictions.jsonl")
        found = [read_predictions(path, "test") for path in sorted(files)]
        return [one for one in found if one is not None]


def _folders(step: Step) -> Folders:
    return Folders.of(step.folder, step.recipe.workspace, step.recipe.data.dataset)


def _if_possible(way: Way, comparison: Comparison) -> Estimate | None:
    try:  # nothing is found where a run has not kept what it needs
        return way(comparison)
    except (UserError, FileNotFoundError) as error:
        raise_if_machine(error)
        return None
