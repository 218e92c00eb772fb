"""The cases behind a study's numbers: recipes compared case by case, where their runs kept them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from voxella.engine.runtime import all_gather_object
from voxella.errors import UserError
from voxella.evaluation.draws import shared_values
from voxella.machine import raise_if_machine
from voxella.metrics.declared.lookup import number_of
from voxella.metrics.declared.number import distance_key, kind_in
from voxella.metrics.estimate import Estimate
from voxella.metrics.predictions import ClassPredictions, Predictions
from voxella.ranks import Ranks
from voxella.study.claims import Comparison
from voxella.study.differences import frechet_difference, kernel_difference, shared_draws
from voxella.study.kept import KeptCases
from voxella.study.plan import Plan
from voxella.study.prediction_differences import COMPARED, prediction_difference
from voxella.study.repeated_differences import (
    repeated_frechet,
    repeated_kernels,
    repeated_predictions,
)

__all__ = ["Sides", "StudyCases"]

_TEXT, _WITH_REPORT = "text_", "_with_report"
# Names of the trainings of left and of right.
Sides = tuple[Sequence[str], Sequence[str]]
Way = Callable[[Comparison, Sides], Estimate | None]
_Runs = list[list[Predictions | ClassPredictions]]


class StudyCases:
    """Answers comparisons from features, head predictions and predictions that the runs have kept.

    What one run contributes is computed once and serves all of its comparisons. Nothing is made
    here: a run without its features is compared by its interval.

    Args:
        plan: The study.
        device: Where products are computed.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self._plan = plan
        self._kept = KeptCases(plan, device)

    def share_draws(self, wanted: Iterable[Comparison], ranks: Ranks) -> None:
        """Compute FID on draws for some comparisons, each process its part; collective.

        Args:
            wanted: The same on every process.
            ranks: Who share the draws.
        """
        of = {
            (step.name, kind_in(comparison.metric))
            for comparison in wanted
            for row in (comparison.left, comparison.right)
            for step in self._plan.trainings(row)
            if number_of(comparison.metric).family == "fid"
        }
        kept = self._kept
        for name, kind in sorted(of):
            if all(all_gather_object(kept.has_draws(name, kind))):
                real, synthetic = kept.vectors(name, kind)
                asked = kept.asked(name, kind)
                draws = shared_draws(real, synthetic, **asked)
                what = f"study: draws of {distance_key('fid', kind)}, {name}"
                values = shared_values(
                    real, synthetic, draws, asked["replicates"], ranks, what=what
                )
                kept.keep_drawn(name, kind, values)

    def difference(self, comparison: Comparison, sides: Sides | None = None) -> Estimate | None:
        """Return left minus right from the cases, or None where they are not there.

        Args:
            comparison: Two rows in a metric.
            sides: Which trainings of either are compared; None: all that are planned.
        """
        ways: dict[str, Way] = {
            "kid": self._kid,
            "fid": self._fid,
            "text": self._text,
            "downstream": self._classifiers,
        }
        if sides is None:
            rows = (comparison.left, comparison.right)
            left, right = ([step.name for step in self._plan.trainings(row)] for row in rows)
            sides = left, right
        way = ways.get(number_of(comparison.metric).family)
        return None if way is None else _if_possible(way, comparison, sides)

    def _kid(self, comparison: Comparison, sides: Sides) -> Estimate:
        kind, level = kind_in(comparison.metric), self._level(comparison)
        left, right = ([self._kept.kernels(name, kind) for name in side] for side in sides)
        if len(left) == len(right) == 1:
            return kernel_difference(left[0], right[0], level=level)
        return repeated_kernels(left, right, level=level)

    def _fid(self, comparison: Comparison, sides: Sides) -> Estimate | None:
        kind, level = kind_in(comparison.metric), self._level(comparison)
        left, right = ([self._kept.draws(name, kind) for name in side] for side in sides)
        n = min(self._kept.patients(name) for side in sides for name in side)
        if len(left) == len(right) == 1:
            return frechet_difference(left[0], right[0], n=n, level=level)
        return repeated_frechet(left, right, n=n, level=level)

    def _text(self, comparison: Comparison, sides: Sides) -> Estimate | None:
        metric = comparison.metric.removeprefix(_TEXT)
        reported = metric.endswith(_WITH_REPORT)
        metric = metric.removesuffix(_WITH_REPORT)
        if metric not in COMPARED:
            return None
        found: list[_Runs] = []
        for side in sides:
            heads = [self._kept.head(name, reported=reported) for name in side]
            found.append([[head] for head in heads if head is not None])
            if len(found[-1]) < len(heads):
                return None
        return self._compared(comparison, metric, *found)

    def _classifiers(self, comparison: Comparison, sides: Sides) -> Estimate | None:
        if comparison.metric not in COMPARED:
            return None
        left, right = ([self._kept.classifiers(name) for name in side] for side in sides)
        if not all(left) or not all(right):
            return None
        return self._compared(comparison, comparison.metric, left, right)

    def _compared(
        self, comparison: Comparison, metric: str, left: _Runs, right: _Runs
    ) -> Estimate | None:
        recipe = self._plan.step(comparison.left).recipe
        seed, level = recipe.seed, recipe.evaluate.level
        count = recipe.evaluate.bootstrap
        if len(left) == len(right) == 1:
            return prediction_difference(
                metric, left[0], right[0], seed=seed, replicates=count, level=level
            )
        return repeated_predictions(metric, left, right, seed=seed, replicates=count, level=level)

    def _level(self, comparison: Comparison) -> float:
        return self._plan.step(comparison.left).recipe.evaluate.level


def _if_possible(way: Way, comparison: Comparison, sides: Sides) -> Estimate | None:
    try:  # nothing is found where a run has not kept what it needs
        return way(comparison, sides)
    except (UserError, FileNotFoundError) as error:
        raise_if_machine(error)
        return None
