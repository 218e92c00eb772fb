"""A binary classifier on a set of cases: every usual number with its interval.

Numbers that do not exist (a sensitivity without positives) are undefined, with the reason; they
are never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from voxella.metrics.bootstrap import Method, bootstrap
from voxella.metrics.calibration import brier_score, expected_calibration_error
from voxella.metrics.delong import auc_estimate, placements
from voxella.metrics.estimate import LEVEL, Estimate, wilson
from voxella.metrics.predictions import Predictions
from voxella.metrics.resampling import Rows, has_repeats

__all__ = ["average_precision", "binary_metrics"]

Booleans = NDArray[np.bool_]
Score = Callable[[Booleans, NDArray[np.float64]], float]


def binary_metrics(
    predictions: Predictions,
    *,
    seed: int,
    name: str,
    threshold: float = 0.5,
    replicates: int = 1000,
    level: float = LEVEL,
    wanted: Collection[str] | None = None,
) -> dict[str, Estimate]:
    """Return accuracy, sensitivity, specificity, PPV, NPV, AUC, AP, Brier score, ECE, prevalence.

    Intervals: Wilson for shares, DeLong for the AUC, percentile bootstrap for the rest. Where some
    patient has several cases, the cases are not independent, and all are bootstrapped over
    patients. Shares count cases, also then.

    Args:
        predictions: Of one split.
        seed: With ``name``, decides the draws.
        name: Of these numbers, such as ``downstream/r/test``.
        threshold: A score above it is called positive.
        replicates: Draws.
        level: Coverage.
        wanted: Names of some of them; None: all.
    """
    shares = {n: s for n, s in _shares(predictions, threshold).items() if _among(n, wanted)}
    scores: dict[str, tuple[Score, str, Method]] = {
        "auc": (_auc, "only one class is present", "percentile"),
        "average_precision": (average_precision, "no positive cases", "percentile"),
        "brier": (brier_score, "", "percentile"),
        # Draws are noisier than the cases themselves and ECE counts noise: see the bootstrap.
        "ece": (expected_calibration_error, "", "recentred"),
    }
    scores = {name: score for name, score in scores.items() if _among(name, wanted)}

    def resampled(metric: str, statistic: Callable[[Rows], float], method: Method) -> Estimate:
        return bootstrap(
            statistic,
            predictions.patients,
            seed=seed,
            name=f"{name}/{metric}",
            replicates=replicates,
            level=level,
            method=method,
            at_least=0.0,
        )

    independent = not has_repeats(predictions.patients)
    found: dict[str, Estimate] = {}
    for metric, (hits, among, why) in shares.items():
        if independent or not among.any():
            found[metric] = wilson(
                int((hits & among).sum()), int(among.sum()), level=level, why=why
            )
        else:
            found[metric] = resampled(metric, _share_of(hits, among), "percentile")
    for metric, (score, why, method) in scores.items():
        if metric == "auc" and independent:
            found[metric] = auc_estimate(predictions.truth, predictions.scores, level=level)
        elif not np.isfinite(score(predictions.truth, predictions.scores)):
            found[metric] = Estimate.undefined(len(predictions), why, level=level)
        else:
            found[metric] = resampled(metric, _score_of(score, predictions), method)
    return found


def average_precision(truth: Booleans, scores: NDArray[np.float64]) -> float:
    """Return ``sum (R_k - R_(k-1)) P_k`` over thresholds, NaN without positives.

    No interpolation: the trapezoid under a precision-recall curve is too large (Davis and Goadrich
    2006).
    """
    if not truth.any():
        return float("nan")
    return float(average_precision_score(truth, scores))


def _ranked_precision(
    truth: Booleans, scores: NDArray[np.float64]
) -> Callable[[NDArray[np.int64]], float]:
    """Return what gives the average precision of the cases, each as often as is said.

    Not scikit-learn's, which would put the cases in order in each of a thousand draws.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order], truth[order]
    # Where a threshold ends: cases of one score are called positive together.
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)

    def precision(times: NDArray[np.int64]) -> float:
        drawn = times[order]
        hits = np.cumsum(drawn * positive)[ends]
        called = np.cumsum(drawn)[ends]
        if hits[-1] == 0:
            return float("nan")
        gained = np.diff(hits, prepend=0)
        return float(np.sum(gained * (hits / np.maximum(called, 1))) / hits[-1])

    return precision


def _shares(
    predictions: Predictions, threshold: float
) -> dict[str, tuple[Booleans, Booleans, str]]:
    """Return of each share what counts as a hit, among which cases, and why there may be none."""
    truth, called = predictions.truth, predictions.positive(threshold)
    everyone = np.ones(len(truth), dtype=bool)
    return {
        "accuracy": (truth == called, everyone, ""),
        "sensitivity": (called, truth, "no positive cases"),
        "specificity": (~called, ~truth, "no negative cases"),
        "ppv": (truth, called, "nothing was called positive"),
        "npv": (~truth, ~called, "nothing was called negative"),
        "prevalence": (truth, everyone, ""),
    }


def _share_of(hits: Booleans, among: Booleans) -> Callable[[Rows], float]:
    def share(rows: Rows) -> float:
        total = np.count_nonzero(among[rows])
        return np.count_nonzero((hits & among)[rows]) / total if total else float("nan")

    return share


def _among(name: str, wanted: Collection[str] | None) -> bool:
    return wanted is None or name in wanted


def _score_of(score: Score, predictions: Predictions) -> Callable[[Rows], float]:
    if score is average_precision:
        precision = _ranked_precision(predictions.truth, predictions.scores)
        n = len(predictions)
        return lambda rows: precision(np.bincount(rows, minlength=n))
    return lambda rows: score(predictions.truth[rows], predictions.scores[rows])


def _auc(truth: Booleans, scores: NDArray[np.float64]) -> float:
    if truth.all() or not truth.any():
        return float("nan")
    return float(placements(truth, scores[None])[0].mean())
