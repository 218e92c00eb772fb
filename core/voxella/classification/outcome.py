"""What a scenario's classifiers are worth on the test cases: numbers with intervals, and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student_t
from sklearn.metrics import precision_recall_curve, roc_curve

from voxella.classification.metrics import PERCENT_POSITIVE
from voxella.metrics.declared.contract import Predicted
from voxella.metrics.declared.lookup import Chosen, chosen_metrics, number_of
from voxella.metrics.declared.measuring import attempt_all
from voxella.metrics.estimate import Estimate, joined
from voxella.metrics.predictions import ClassPredictions, Predictions
from voxella.plugins.component import Component
from voxella.recipe.evaluation import Evaluate

__all__ = [
    "curves",
    "metrics_of_predictions",
    "over_seeds",
    "seed_metrics",
]

_BUILT_IN = "downstream"
_NO_TEST = "no labelled case in the split test"


def metrics_of_predictions(settings: Evaluate) -> list[Chosen]:
    """Return what is measured of predictions; the built-in metric always, which choices rest on.

    Raises:
        UserError: A metric cannot be built.
    """
    chosen = settings.metrics
    if chosen is not None and _BUILT_IN not in [metric.name for metric in chosen]:
        chosen = [Component(name=_BUILT_IN), *chosen]
    return chosen_metrics(chosen, of_predictions=True)


def seed_metrics(
    test: Predictions | ClassPredictions | None, settings: Evaluate, *, seed: int, name: str
) -> dict[str, Estimate]:
    """Return one training's numbers with intervals over the test cases; undefined without any.

    Args:
        test: What was predicted of the test cases.
        settings: How sure: resamples and level; and which metrics.
        seed: With ``name``, decides the resamples.
        name: Of the training.
    """
    found: dict[str, Estimate] = {}
    for one in metrics_of_predictions(settings):
        keys = [number.key for number in one.metric.numbers if number.key != PERCENT_POSITIVE]
        if test is None:
            nothing = Estimate.undefined(0, _NO_TEST, level=settings.level)
            found |= dict.fromkeys(keys, nothing)
            continue
        given = Predicted(test, seed, f"classify/{name}/test", settings.level, settings.bootstrap)
        measured = attempt_all(one, given, n=len(test), level=settings.level, split="test")
        found |= {key: number.estimate for key, number in measured.items()}
    return found


def over_seeds(by_seed: Sequence[Mapping[str, Estimate]]) -> dict[str, Estimate]:
    """Return each number over trainings that differ in the seed alone.

    One training: its own estimate, the interval over test cases. Several: their mean and Student's
    interval over TRAININGS. That one says how far chance in training moves the number; the choice
    of test cases is in the interval of each training, which are kept beside it.
    """
    if len(by_seed) == 1:
        return dict(by_seed[0])
    keys = dict.fromkeys(key for seed in by_seed for key in seed)
    return {key: _mean(key, [seed[key] for seed in by_seed if key in seed]) for key in keys}


def _mean(key: str, estimates: Sequence[Estimate]) -> Estimate:
    bounded = number_of(key).bounded
    known = [estimate.value for estimate in estimates if estimate.value is not None]
    cases = max(estimate.n for estimate in estimates)
    level, lost = estimates[0].level, len(estimates) - len(known)
    if not known:
        reason = estimates[0].note or "undefined in every training"
        return Estimate.undefined(cases, reason, level=level)
    note = f"undefined in {lost} of {len(estimates)} trainings, left out" if lost else None
    value, count = float(np.mean(known)), len(known)
    how = f"mean of {count} trainings, t interval over trainings, not over test cases"
    how += "; in [0, 1]" if bounded else ""
    if count < 2:
        return Estimate(value, None, None, cases, level, how, joined(note, "no interval of one"))
    error = float(np.std(known, ddof=1)) / math.sqrt(count)
    half = float(student_t.ppf((1 + level) / 2, count - 1)) * error
    low, high = value - half, value + half
    if bounded:
        # Two trainings alone can give an interval that knows not that the number is a share.
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(value, low, high, cases, level, how, note)


def curves(test: Predictions | ClassPredictions | None) -> dict[str, Any] | None:
    """Return the ROC and the precision-recall curve, every threshold of them, as JSON-ready data.

    None where there is no test case; a curve is None where one class is absent. Without a positive
    class the curves of each class against the rest are under ``classes``.
    """
    if test is None:
        return None
    if isinstance(test, ClassPredictions):
        each = {name: curves(test.against_rest(place)) for place, name in enumerate(test.classes)}
        return {"cases": len(test), "classes": each}
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
