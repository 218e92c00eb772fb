"""Intervals of a proportion: Wilson's score interval and the exact one of Clopper and Pearson."""

from __future__ import annotations

import math

from scipy.stats import beta, norm

from voxella.metrics.estimate import LEVEL, Estimate

__all__ = ["clopper_pearson", "wilson"]


def wilson(successes: int, n: int, *, level: float = LEVEL, why: str = "no cases") -> Estimate:
    """Return a proportion with its score interval: near the stated coverage even at small N.

    Wilson 1927, in the form of Newcombe 1998 (Statistics in Medicine 17:857), method 3.

    Args:
        successes: Of ``n`` independent trials.
        n: Trials.
        level: Coverage.
        why: Why ``n`` is 0, should it be.
    """
    how = f"{successes} of {n}, Wilson interval"
    if n == 0:
        return Estimate.undefined(0, why, level=level, how=how)
    z = float(norm.ppf((1 + level) / 2))
    p = successes / n
    centre = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    # At 0 and n the closed form is exactly 0 and 1; floating point may miss them by a bit.
    low = 0.0 if successes == 0 else low
    high = 1.0 if successes == n else high
    return Estimate(p, low, high, n, level, how)


def clopper_pearson(
    successes: int, n: int, *, level: float = LEVEL, why: str = "no cases"
) -> Estimate:
    """Return a proportion with its exact interval, which never covers less than stated.

    Clopper and Pearson 1934, Biometrika 26:404, through quantiles of the beta distribution.
    Arguments as in :func:`wilson`.
    """
    how = f"{successes} of {n}, Clopper-Pearson interval"
    if n == 0:
        return Estimate.undefined(0, why, level=level, how=how)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.ppf(1 - tail, successes + 1, n - successes))
    return Estimate(successes / n, low, high, n, level, how)
