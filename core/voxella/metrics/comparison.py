"""Two classifiers on the same cases: is one better, or was it luck.

Both tests are paired: a case that both get right says nothing about which is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest, norm

from voxella.metrics.delong import auc_covariance
from voxella.metrics.estimate import LEVEL, Estimate
from voxella.metrics.predictions import Predictions, aligned
from voxella.metrics.resampling import has_repeats

__all__ = ["PairedTest", "compare_accuracy", "compare_auc"]

_CLUSTERED = "some patients have several cases, which the test takes as independent"


@dataclass(frozen=True)
class PairedTest:
    """First minus second, and how surprising that is if the two are equally good.

    Attributes:
        test: Its name.
        difference: First minus second.
        p_value: Two-sided; None where the test does not exist.
    """

    test: str
    difference: Estimate
    p_value: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the test as JSON-ready data."""
        return {
            "test": self.test,
            "difference": self.difference.as_json(),
            "p_value": self.p_value,
        }


def compare_auc(first: Predictions, second: Predictions, *, level: float = LEVEL) -> PairedTest:
    """Test two correlated AUCs (DeLong et al. 1988; see :mod:`voxella.metrics.delong`).

    Args:
        first: Of one classifier.
        second: Of another, for the same cases in any order.
        level: Coverage of the difference's interval.

    Raises:
        UserError: The cases or their truths differ.
    """
    aligned(first, second)
    test, how = "DeLong", "difference of correlated AUCs, DeLong interval"
    truth, n = first.truth, len(first)
    if min(truth.sum(), (~truth).sum()) < 2:
        reason = "a paired test of AUCs needs two cases of each class"
        return PairedTest(test, Estimate.undefined(n, reason, level=level, how=how), None)
    aucs, covariance = auc_covariance(truth, np.stack([first.scores, second.scores]))
    value = float(aucs[0] - aucs[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # Rounding leaves 1e-18 where two classifiers rank all cases alike.
    if variance <= 1e-15:
        note = "the difference has no variance: both rank the classes alike"
        same = 1.0 if abs(value) < 1e-12 else None
        return PairedTest(test, Estimate(value, None, None, n, level, how, note), same)
    error = math.sqrt(variance)
    half = float(norm.ppf((1 + level) / 2)) * error
    p_value = float(2 * norm.sf(abs(value) / error))
    estimate = Estimate(value, value - half, value + half, n, level, how, _note(first))
    return PairedTest(test, estimate, p_value)


def compare_accuracy(
    first: Predictions, second: Predictions, *, threshold: float = 0.5, level: float = LEVEL
) -> PairedTest:
    """Test two accuracies by the cases that only one gets right: McNemar's exact test.

    McNemar 1947; exact: under the null either classifier is the right one with probability 1/2.
    The interval of the difference is Bonett and Price's adjusted Wald interval (2012, Journal of
    Educational and Behavioral Statistics 37:479), which keeps its coverage at small N.

    Args:
        first: Of one classifier.
        second: Of another, for the same cases in any order.
        threshold: A score above it is called positive.
        level: Coverage of the difference's interval.

    Raises:
        UserError: The cases or their truths differ.
    """
    aligned(first, second)
    right = [p.positive(threshold) == p.truth for p in (first, second)]
    only_first = int(np.count_nonzero(right[0] & ~right[1]))
    only_second = int(np.count_nonzero(right[1] & ~right[0]))
    n, discordant = len(first), only_first + only_second
    p_value = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    low, high = _bonett_price(only_first, only_second, n, level)
    value = (only_first - only_second) / n
    how = f"right where the other is wrong: {only_first} and {only_second}; Bonett-Price interval"
    estimate = Estimate(value, low, high, n, level, how, _note(first))
    return PairedTest("McNemar exact", estimate, p_value)


def _bonett_price(more: int, less: int, n: int, level: float) -> tuple[float, float]:
    """Return the interval of ``(more - less) / n`` with one case added to either count."""
    p, q = (more + 1) / (n + 2), (less + 1) / (n + 2)
    half = float(norm.ppf((1 + level) / 2)) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return max(p - q - half, -1.0), min(p - q + half, 1.0)


def _note(predictions: Predictions) -> str | None:
    return _CLUSTERED if has_repeats(predictions.patients) else None
