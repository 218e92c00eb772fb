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

__all__ = ["COMPARED", "mean_score", "prediction_difference"]

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
    tested = _tested(metric, left, right, level=level, threshold=threshold)
    if tested is not None:
        return tested
    scores = [mean_score(metric, side, threshold=threshold) for side in (left, right)]

    def difference(rows: Rows) -> float:
        return scores[0](rows) - scores[1](rows)

    return bootstrap(
        difference,
        left[0].patients,
        seed=seed,
        name=f"study/{metric}",
        replicates=replicates,
        level=level,
    )


def mean_score(
    metric: str, runs: Sequence[Predictions | ClassPredictions], *, threshold: float = 0.5
) -> Callable[[Rows], float]:
    """Return what gives a metric of some of the cases: the mean over a classifier's trainings.

    Args:
        metric: As in :func:`prediction_difference`; of several classes the mean over them.
        runs: One training's predictions each, of the same cases.
        threshold: A score above it is called positive.
    """
    binary = [run for run in runs if isinstance(run, Predictions)]
    if len(binary) < len(runs):
        name = statistic_of(metric)
        each = [class_statistic(name, run) for run in runs if isinstance(run, ClassPredictions)]
        return lambda rows: float(np.mean([score(rows) for score in each]))
    score, truth = _SCORES[metric], binary[0].truth
    return lambda rows: float(
        np.mean([score(truth[rows], run.scores[rows], threshold) for run in binary])
    )


def _tested(
    metric: str,
    left: Sequence[Predictions | ClassPredictions],
    right: Sequence[Predictions | ClassPredictions],
    *,
    level: float,
    threshold: float,
) -> Estimate | None:
    """Return the difference by a paired test of two classes, where there is one."""
    if not len(left) == len(right) == 1 or has_repeats(left[0].patients):
        return None
    ours, theirs = left[0], right[0]
    if not (isinstance(ours, Predictions) and isinstance(theirs, Predictions)):
        return None
    if metric == "auc":
        return compare_auc(ours, theirs, level=level).difference
    if metric == "accuracy":
        return compare_accuracy(ours, theirs, threshold=threshold, level=level).difference
    return None


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
