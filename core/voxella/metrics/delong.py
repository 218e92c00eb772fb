"""AUC and the covariance of several AUCs of the same cases, without assumptions on the scores.

DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837), by midranks as in Sun and Xu 2014
(IEEE Signal Processing Letters 21:1389, algorithm 2): O(N log N) instead of a table of all pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from voxella.metrics.estimate import LEVEL, Estimate

__all__ = ["auc_covariance", "auc_estimate", "placements"]

Matrix = NDArray[np.float64]


def placements(truth: NDArray[np.bool_], scores: Matrix) -> tuple[Matrix, Matrix]:
    """Return the structural components of K scores, V10 and V01 of the first paper.

    Args:
        truth: ``(N,)``, with ``m`` positives and ``n`` negatives, none of them 0.
        scores: ``(K, N)``.

    Returns:
        ``(K, m)``: for each positive the share of negatives below it, ties counting half; and
        ``(K, n)``: for each negative the share of positives above it.
    """
    positive, negative = scores[:, truth], scores[:, ~truth]
    m, n = positive.shape[1], negative.shape[1]
    together = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    above = (together[:, :m] - rankdata(positive, axis=1)) / n
    below = 1.0 - (together[:, m:] - rankdata(negative, axis=1)) / m
    return np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)


def auc_covariance(truth: NDArray[np.bool_], scores: Matrix) -> tuple[Matrix, Matrix]:
    """Return K AUCs and their ``(K, K)`` covariance: ``S10 / m + S01 / n``.

    Args:
        truth: ``(N,)``, at least two positives and two negatives.
        scores: ``(K, N)``.
    """
    above, below = placements(truth, scores)
    covariance = np.atleast_2d(np.cov(above)) / above.shape[1]
    covariance += np.atleast_2d(np.cov(below)) / below.shape[1]
    return above.mean(axis=1), covariance


def auc_estimate(
    truth: NDArray[np.bool_], scores: NDArray[np.float64], *, level: float = LEVEL
) -> Estimate:
    """Return the AUC with DeLong's interval on the logit scale, which stays within 0 and 1.

    The logit interval: Pepe 2003, "The Statistical Evaluation of Medical Tests", chapter 5.

    Args:
        truth: ``(N,)`` whether positive.
        scores: ``(N,)``.
        level: Coverage.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    how = f"{positives} positive and {negatives} negative cases, DeLong interval (logit)"
    n = positives + negatives
    if positives == 0 or negatives == 0:
        missing = "positive" if positives == 0 else "negative"
        return Estimate.undefined(n, f"no {missing} cases", level=level, how=how)
    if min(positives, negatives) == 1:
        value = float(placements(truth, scores[None])[0].mean())
        note = "a variance needs two cases of each class"
        return Estimate(value, None, None, n, level, how, note)
    aucs, covariance = auc_covariance(truth, scores[None])
    value, error = float(aucs[0]), math.sqrt(max(float(covariance[0, 0]), 0.0))
    if not 0.0 < value < 1.0:
        note = "the classes are separated without error: the variance cannot be estimated"
        return Estimate(value, None, None, n, level, how, note)
    half = float(norm.ppf((1 + level) / 2)) * error / (value * (1 - value))
    low, high = expit(logit(value) - half), expit(logit(value) + half)
    return Estimate(value, float(low), float(high), n, level, how)
