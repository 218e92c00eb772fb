"""The difference of two classifiers, or of two text heads, on the same cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from voxella.metrics.binary import average_precision
from voxella.metrics.bootstrap import bootstrap
from voxella.metrics.comparison import compare_accuracy, compare_auc
from voxella.metrics.declared.number import statistic_of
from voxella.metrics.delong import placements
from voxella.metrics.estimate import LEVEL, Estimate
from voxella.metrics.multiclass import class_statistic
from voxella.metrics.predictions import ClassPredictions, Predictions, aligned
from voxella.metrics.resampling import Rows, has_repeats

__all__ = ["COMPARED", "prediction_difference"]

Values = NDArray[np.float64]
Booleans = NDArray[np.bool_]


def prediction_difference(
    metric: str,
    left: Sequence[Predictions | ClassPredictions],
    right: Sequence[Predictions | ClassPredictions],
    *,
    seed: int,
    replicates: int,
    level: float = LEVEL,
    threshold: float = 0.5,
) -> Estimate:
    """Return the difference of two classifiers in one metric, on the same cases.

    One training each, and every patient with one case: DeLong for the AUC, McNemar's counts for
    the accuracy. Otherwise patients are drawn, and a classifier's number is its trainings' mean.
    The draws are of the metric, whoever is compared: left and right exchanged is the same answer.

    Args:
        metric: ``accuracy``, ``sensitivity``, ``specificity``, ``ppv``, ``npv``, ``auc``, ``ap``.
        left: One training's predictions each.
        right: Of the other classifier.
        seed: With the metric, decides the draws.
        replicates: Draws.
        level: Coverage.
        threshold: A score above it is called positive.

    Raises:
        UserError: The cases or their truths differ.
    """
    for other in (*left[1:], *right):
        aligned(left[0], other)
    binary = [[run for run in side if isinstance(run, Predictions)] for side in (left, right)]
    if len(binary[0]) < len(left):
        return _of_classes(metric, left, right, seed=seed, replicates=replicates, level=level)
    return _of_two(
        metric, *binary, seed=seed, replicates=replicates, level=level, threshold=threshold
    )


def _of_classes(
    metric: str,
    left: Sequence[Predictions | ClassPredictions],
    right: Sequence[Predictions | ClassPredictions],
    *,
    seed: int,
    replicates: int,
    level: float,
) -> Estimate:
    """Return the difference of means over the classes; patients are drawn."""
    statistic = statistic_of(metric)
    scores = [
        [class_statistic(statistic, run) for run in side if isinstance(run, ClassPredictions)]
        for side in (left, right)
    ]

    def difference(rows: Rows) -> float:
        means = [np.mean([score(rows) for score in side]) for side in scores]
        return float(means[0] - means[1])

    return bootstrap(
        difference,
        left[0].patients,
        seed=seed,
        name=f"study/{metric}",
        replicates=replicates,
        level=level,
    )


def _of_two(
    metric: str,
    left: Sequence[Predictions],
    right: Sequence[Predictions],
    *,
    seed: int,
    replicates: int,
    level: float,
    threshold: float,
) -> Estimate:
    single = len(left) == len(right) == 1 and not has_repeats(left[0].patients)
    if single and metric == "auc":
        return compare_auc(left[0], right[0], level=level).difference
    if single and metric == "accuracy":
        return compare_accuracy(left[0], right[0], threshold=threshold, level=level).difference
    score = _SCORES[metric]
    truth = left[0].truth

    def difference(rows: Rows) -> float:
        means = [
            np.mean([score(truth[rows], run.scores[rows], threshold) for run in side])
            for side in (left, right)
        ]
        return float(means[0] - means[1])

    return bootstrap(
        difference,
        left[0].patients,
        seed=seed,
        name=f"study/{metric}",
        replicates=replicates,
        level=level,
    )


def _share(hits: Booleans, among: Booleans) -> float:
    return float((hits & among).sum() / among.sum()) if among.any() else float("nan")


def _auc(truth: Booleans, scores: Values, threshold: float) -> float:
    if truth.all() or not truth.any():
        return float("nan")
    return float(placements(truth, scores[None])[0].mean())


_SCORES: dict[str, Callable[[Booleans, Values, float], float]] = {
    "accuracy": lambda truth, scores, at: float(((scores > at) == truth).mean()),
    "sensitivity": lambda truth, scores, at: _share(scores > at, truth),
    "specificity": lambda truth, scores, at: _share(scores <= at, ~truth),
    "ppv": lambda truth, scores, at: _share(truth, scores > at),
    "npv": lambda truth, scores, at: _share(~truth, scores <= at),
    "auc": _auc,
    "ap": lambda truth, scores, at: average_precision(truth, scores),
}

# The metrics that can be compared case by case.
COMPARED = frozenset(_SCORES)
