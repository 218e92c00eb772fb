"""More than two classes and none of them the positive one: each against all others, and the mean.

Accuracy is the share of cases whose likeliest class is the right one. Every other number is the
mean over the classes of the same number of two classes, all classes weighing the same (macro
average, one-vs-rest), as scikit-learn's ``roc_auc_score(multi_class="ovr", average="macro")``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxella.metrics.binary import average_precision, binary_metrics
from voxella.metrics.bootstrap import bootstrap
from voxella.metrics.calibration import brier_score, expected_calibration_error
from voxella.metrics.delong import auc_estimate, placements
from voxella.metrics.estimate import LEVEL, Estimate, wilson
from voxella.metrics.predictions import ClassPredictions, Predictions
from voxella.metrics.resampling import Rows, has_repeats

__all__ = ["auc_of", "class_statistic", "one_vs_rest", "prediction_metrics"]

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]
# (whether a case is of the class, its probability, whether the class is called) -> number
Score = Callable[[Booleans, Floats, Booleans], float]


def prediction_metrics(
    predictions: Predictions | ClassPredictions,
    *,
    seed: int,
    name: str,
    replicates: int = 1000,
    level: float = LEVEL,
    wanted: Collection[str] | None = None,
) -> dict[str, Estimate]:
    """Return the numbers of :func:`voxella.metrics.binary.binary_metrics`, of any classes.

    Without a positive class there is no prevalence; accuracy has Wilson's interval and the means
    over classes a bootstrap over patients. Arguments as there.
    """
    if isinstance(predictions, Predictions):
        return binary_metrics(
            predictions, seed=seed, name=name, replicates=replicates, level=level, wanted=wanted
        )
    found = {
        metric: _estimate(predictions, metric, seed, f"{name}/{metric}", replicates, level)
        for metric in ("accuracy", *_SCORES)
        if wanted is None or metric in wanted
    }
    if wanted is None or "prevalence" in wanted:
        why = f"none of the {len(predictions.classes)} classes is named as data.positive"
        found["prevalence"] = Estimate.undefined(len(predictions), why, level=level)
    return found


def one_vs_rest(
    predictions: Predictions | ClassPredictions,
    *,
    seed: int,
    name: str,
    replicates: int = 1000,
    level: float = LEVEL,
) -> dict[str, dict[str, Any]]:
    """Return by class its numbers against the rest, JSON-ready; none where there is a positive."""
    if isinstance(predictions, Predictions):
        return {}
    return {
        label: {
            metric: estimate.as_json()
            for metric, estimate in binary_metrics(
                predictions.against_rest(place),
                seed=seed,
                name=f"{name}/{label}",
                replicates=replicates,
                level=level,
            ).items()
        }
        for place, label in enumerate(predictions.classes)
    }


def auc_of(predictions: Predictions | ClassPredictions) -> float | None:
    """Return the AUC, of several classes the mean; None where a class is absent."""
    if isinstance(predictions, Predictions):
        return auc_estimate(predictions.truth, predictions.scores).value
    value = class_statistic("auc", predictions)(np.arange(len(predictions)))
    return value if np.isfinite(value) else None


def class_statistic(metric: str, predictions: ClassPredictions) -> Callable[[Rows], float]:
    """Return what gives a number of some of the cases; NaN where a class does not have it."""
    truth, called = predictions.truth, predictions.called
    if metric == "accuracy":
        return lambda rows: float((truth[rows] == called[rows]).mean())
    score = _SCORES[metric]
    members = [truth == place for place in range(len(predictions.classes))]
    calls = [called == place for place in range(len(predictions.classes))]

    def mean(rows: Rows) -> float:
        each = [
            score(members[place][rows], predictions.scores[rows, place], calls[place][rows])
            for place in range(len(members))
        ]
        return float(np.mean(each))

    return mean


def _estimate(
    predictions: ClassPredictions, metric: str, seed: int, name: str, replicates: int, level: float
) -> Estimate:
    if metric == "accuracy" and not has_repeats(predictions.patients):
        right = int((predictions.truth == predictions.called).sum())
        return wilson(right, len(predictions), level=level)
    statistic = class_statistic(metric, predictions)
    if metric != "accuracy" and not np.isfinite(statistic(np.arange(len(predictions)))):
        lacking = ", ".join(_lacking(predictions, metric))
        return Estimate.undefined(len(predictions), f"it is undefined for {lacking}", level=level)
    found = bootstrap(
        statistic,
        predictions.patients,
        seed=seed,
        name=name,
        replicates=replicates,
        level=level,
        method="recentred" if metric == "ece" else "percentile",
        at_least=0.0,
    )
    if metric == "accuracy":
        return found
    told = f"mean over {len(predictions.classes)} classes, each against the rest"
    return replace(found, how=f"{told}; {found.how}")


def _lacking(predictions: ClassPredictions, metric: str) -> list[str]:
    score, called = _SCORES[metric], predictions.called
    return [
        label
        for place, label in enumerate(predictions.classes)
        if not np.isfinite(
            score(predictions.truth == place, predictions.scores[:, place], called == place)
        )
    ]


def _share(hits: Booleans, among: Booleans) -> float:
    return float((hits & among).sum() / among.sum()) if among.any() else float("nan")


def _auc(truth: Booleans, scores: Floats) -> float:
    if truth.all() or not truth.any():
        return float("nan")
    return float(placements(truth, scores[None])[0].mean())


_SCORES: dict[str, Score] = {
    "sensitivity": lambda truth, scores, called: _share(called, truth),
    "specificity": lambda truth, scores, called: _share(~called, ~truth),
    "ppv": lambda truth, scores, called: _share(truth, called),
    "npv": lambda truth, scores, called: _share(~truth, ~called),
    "auc": lambda truth, scores, called: _auc(truth, scores),
    "average_precision": lambda truth, scores, called: average_precision(truth, scores),
    "brier": lambda truth, scores, called: brier_score(truth, scores),
    "ece": lambda truth, scores, called: expected_calibration_error(truth, scores),
}
