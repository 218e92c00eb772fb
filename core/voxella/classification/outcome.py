"""What a scenario's classifiers are worth on the test cases: numbers with intervals, and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student_t
from sklearn.metrics import precision_recall_curve, roc_curve

from voxella.metrics.binary import binary_metrics
from voxella.metrics.estimate import Estimate, joined
from voxella.metrics.predictions import Predictions
from voxella.recipe.evaluation import Evaluate

__all__ = ["METRICS", "curves", "over_seeds", "seed_metrics"]

# name in metrics.json -> name in voxella.metrics.binary
METRICS = {
    "auc": "auc",
    "ap": "average_precision",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "ppv",
    "npv": "npv",
}
_NO_TEST = "no labelled case in the split test"


def seed_metrics(
    test: Predictions | None, settings: Evaluate, *, seed: int, name: str
) -> dict[str, Estimate]:
    """Return one training's numbers with intervals over the test cases; undefined without any.

    Args:
        test: What was predicted of the test cases.
        settings: How sure: resamples and level.
        seed: With ``name``, decides the resamples.
        name: Of the training.
    """
    level = settings.level
    if test is None:
        return {metric: Estimate.undefined(0, _NO_TEST, level=level) for metric in METRICS}
    found = binary_metrics(
        test,
        seed=seed,
        name=f"classify/{name}/test",
        replicates=settings.bootstrap,
        level=level,
    )
    return {metric: found[key] for metric, key in METRICS.items()}


def over_seeds(by_seed: Sequence[Mapping[str, Estimate]]) -> dict[str, Estimate]:
    """Return each number over trainings that differ in the seed alone.

    One training: its own estimate, the interval over test cases. Several: their mean and Student's
    interval over TRAININGS. That one says how far chance in training moves the number; the choice
    of test cases is in the interval of each training, which are kept beside it.
    """
    if len(by_seed) == 1:
        return dict(by_seed[0])
    return {metric: _mean([seed[metric] for seed in by_seed]) for metric in METRICS}


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    known = [estimate.value for estimate in estimates if estimate.value is not None]
    cases = max(estimate.n for estimate in estimates)
    level, lost = estimates[0].level, len(estimates) - len(known)
    if not known:
        reason = estimates[0].note or "undefined in every training"
        return Estimate.undefined(cases, reason, level=level)
    note = f"undefined in {lost} of {len(estimates)} trainings, left out" if lost else None
    value, count = float(np.mean(known)), len(known)
    how = f"mean of {count} trainings, t interval over trainings, not over test cases; in [0, 1]"
    if count < 2:
        return Estimate(value, None, None, cases, level, how, joined(note, "no interval of one"))
    error = float(np.std(known, ddof=1)) / math.sqrt(count)
    half = float(student_t.ppf((1 + level) / 2, count - 1)) * error
    # All these numbers are shares; two trainings alone can give an interval that knows it not.
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    return Estimate(value, low, high, cases, level, how, note)


def curves(test: Predictions | None) -> dict[str, Any] | None:
    """Return the ROC and the precision-recall curve, every threshold of them, as JSON-ready data.

    None where there is no test case; a curve is None where one class is absent.
    """
    if test is None:
        return None
    both = bool(test.truth.any() and not test.truth.all())
    return {
        "cases": len(test),
        "positive": int(test.truth.sum()),
        "roc": _roc(test) if both else None,
        "pr": _precision_recall(test) if test.truth.any() else None,
    }


def _roc(test: Predictions) -> dict[str, list[float | None]]:
    false_positive, true_positive, thresholds = roc_curve(
        test.truth, test.scores, drop_intermediate=False
    )
    return {
        "false_positive_rate": false_positive.tolist(),
        "true_positive_rate": true_positive.tolist(),
        # The first point calls nothing positive: its threshold is infinite.
        "threshold": [None if math.isinf(value) else value for value in thresholds.tolist()],
    }


def _precision_recall(test: Predictions) -> dict[str, list[float | None]]:
    precision, recall, thresholds = precision_recall_curve(test.truth, test.scores)
    return {
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        # The last point, recall 0, has none.
        "threshold": [*thresholds.tolist(), None],
    }
