"""Numbers of models that were trained several times: intervals over trainings AND patients.

Every training of a recipe is measured on the same patients, so the two are crossed: a number is
``mu + training + patient + (training x patient)``. Cases are drawn, or left out, in all trainings
at once, which is the bootstrap of crossed factors (Owen 2007, "The pigeonhole bootstrap", Annals of
Applied Statistics 1:386). Three deviations, all of them for the sake of few trainings:

- Trainings are not drawn. Of K trainings K - 1 would be (Rao and Wu 1988, JASA 83:231; drawing K
  makes the variance too small by (K - 1) / K, a half at K 2), and the variance of the mean of such
  a draw is known: ``s^2 / K``.
- The pigeonhole bootstrap counts the interaction of trainings and patients up to three times. It is
  estimated from the same draws and counted once.
- The interval is ``value -+ t x SE``, with the degrees of freedom of Satterthwaite 1946 (Biometrics
  Bulletin 2:110). Quantiles of draws of two or three trainings would be far too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from voxella.metrics.estimate import LEVEL, Estimate

__all__ = [
    "POWER",
    "TwoLevelEstimate",
    "covariance_of_draws",
    "covariance_of_errors",
    "covariance_without_each",
    "smallest_difference",
    "two_level",
]

Values = NDArray[np.float64]

POWER = 0.8


@dataclass(frozen=True)
class TwoLevelEstimate(Estimate):
    """An estimate over trainings and patients.

    Attributes:
        error: Standard error.
        degrees: Of freedom, of the interval's t.
        trainings: Share of the variance that lies between trainings.
    """

    error: float = 0.0
    degrees: float | None = None
    trainings: float | None = None


def two_level(
    groups: Sequence[Values],
    covariance: Values,
    *,
    n: int,
    level: float = LEVEL,
    how: str = "",
) -> TwoLevelEstimate:
    """Return the mean of a recipe's trainings, or the difference of two recipes' means.

    Args:
        groups: The number of each training, ``(K,)``, K at least 2; of one recipe, or of left and
            right.
        covariance: Of all these numbers in order, ``(K1 + K2, K1 + K2)``: how they move with the
            patients while the trainings stay.
        n: Patients.
        level: Coverage.
        how: Estimator of the covariance, in a few words.

    Raises:
        ValueError: A recipe has fewer than two trainings, or the covariance is of another size.
    """
    sizes = [len(values) for values in groups]
    if min(sizes) < 2:
        raise ValueError("of one training nothing is known about another")
    if covariance.shape != (sum(sizes), sum(sizes)):
        raise ValueError(f"a covariance of {covariance.shape} for {sizes} trainings")
    signs = [1.0, -1.0][: len(groups)]
    value = sum(sign * float(v.mean()) for sign, v in zip(signs, groups, strict=True))
    weights = np.concatenate([np.full(k, s / k) for k, s in zip(sizes, signs, strict=True)])
    between = [float(values.var(ddof=1)) / len(values) for values in groups]
    # What a training's own luck with these patients adds is in the spread between trainings, too.
    alone = sum(_interaction(block) for block in _blocks(covariance, sizes))
    patients = max(0.0, float(weights @ covariance @ weights) - alone)
    variance = sum(between) + patients
    error, degrees = math.sqrt(variance), _degrees(between, sizes, patients, n)
    half = float(t.ppf((1 + level) / 2, degrees)) * error
    told = " and ".join(str(size) for size in sizes)
    return TwoLevelEstimate(
        value,
        value - half,
        value + half,
        n,
        level,
        f"{how}; {told} trainings and {n} patients, t of {degrees:.3g} degrees of freedom",
        error=error,
        degrees=degrees,
        trainings=sum(between) / variance if variance else None,
    )


def covariance_of_draws(drawn: Values) -> Values:
    """Return how numbers move together over draws of patients.

    Args:
        drawn: ``(trainings, draws)``, the same draws for all; one that is undefined for any of them
            is left out.
    """
    known = drawn[:, np.isfinite(drawn).all(axis=0)]
    return np.atleast_2d(np.cov(known))


def covariance_without_each(left_out: Values) -> Values:
    """Return the jackknife's covariance (Efron and Tibshirani 1993, chapter 11).

    Args:
        left_out: ``(trainings, patients)``, each number without each patient.
    """
    size = left_out.shape[1]
    away = left_out - left_out.mean(axis=1, keepdims=True)
    return np.asarray(away @ away.T * (size - 1) / size)


def covariance_of_errors(errors: Values) -> Values:
    """Return the covariance where only each number's own standard error is known.

    The trainings are taken to move together wholly, as they are measured on the same patients: the
    error of their mean is not below that.

    Args:
        errors: ``(trainings,)``.
    """
    return np.outer(errors, errors)


def smallest_difference(difference: Estimate, power: float = POWER) -> float | None:
    """Return the smallest true difference that such data would show, or None without an interval.

    With the usual approximation: the quantile that decides plus that of the power, times the
    standard error (Chow, Shao and Wang 2008, "Sample Size Calculations in Clinical Research",
    section 3.2). Quantiles are normal, or of t where the interval is.

    Args:
        difference: With its interval; ``1 - level`` is the share of false alarms of a test of it.
        power: Share of such data in which a difference of that size would be decided.
    """
    if difference.low is None or difference.high is None:
        return None
    known = t(difference.degrees) if isinstance(difference, TwoLevelEstimate) else norm
    decides, shows = float(known.ppf((1 + difference.level) / 2)), float(known.ppf(power))
    return (difference.high - difference.low) / 2 * (1 + shows / decides)


def _blocks(covariance: Values, sizes: Sequence[int]) -> list[Values]:
    ends = np.cumsum(sizes)
    return [covariance[e - k : e, e - k : e] for e, k in zip(ends, sizes, strict=True)]


def _interaction(block: Values) -> float:
    """Return what of a mean's variance over patients is each training's own."""
    size = len(block)
    return float((np.trace(block) - block.sum() / size) / (size - 1) / size)


def _degrees(between: Sequence[float], sizes: Sequence[int], patients: float, n: int) -> float:
    parts = [*zip(between, [size - 1 for size in sizes], strict=True), (patients, max(n - 1, 1))]
    whole = sum(part for part, _ in parts)
    if whole == 0:
        return float(sum(sizes) - len(sizes))
    return whole**2 / sum(part**2 / degrees for part, degrees in parts if part)
