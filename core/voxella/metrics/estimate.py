"""A number with what makes it readable: its interval, its N and how both were reached.

Intervals of a proportion: Wilson's score interval and the exact one of Clopper and Pearson.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import binomtest

__all__ = ["LEVEL", "Estimate", "clopper_pearson", "joined", "wilson"]

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """One measured number. The caller adds the split it was measured on.

    Attributes:
        value: None where the number is undefined; ``note`` then says why.
        low: Lower end of the interval, None where there is no interval.
        high: Upper end.
        n: Independent units behind the number: patients, or cases where none has two; of two sets,
            the smaller. Slices of one case count once.
        level: Coverage that the interval is meant to have.
        how: Estimator, interval and sample sizes, in a few words.
        note: What a reader has to know before comparing the number with another.
        warning: Why the value is not what its name says; shown wherever the value is.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    level: float = LEVEL
    how: str = ""
    note: str | None = None
    warning: str | None = None

    def __post_init__(self) -> None:
        numbers = (self.value, self.low, self.high)
        if any(number is not None and not math.isfinite(number) for number in numbers):
            raise ValueError("an estimate is finite, or None with a note")
        if self.value is None and not self.note:
            raise ValueError("an undefined estimate says why in its note")
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("an interval's ends are in order")

    @classmethod
    def undefined(cls, n: int, reason: str, *, level: float = LEVEL, how: str = "") -> Estimate:
        """Return an estimate without a value, and the reason."""
        return cls(None, None, None, n, level, how, reason)

    def as_json(self) -> dict[str, Any]:
        """Return the estimate as JSON-ready data."""
        return asdict(self)

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined ({self.note}; N {self.n})"
        if self.low is None or self.high is None:
            return f"{self.value:.4g} (no interval; N {self.n})"
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g}; N {self.n})"


def told_value(value: float | None) -> str:
    """Return a value for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.4g}"


def told_interval(entry: Mapping[str, Any]) -> str:
    """Return the interval of an estimate's JSON for a table; a dash where there is none."""
    if entry["low"] is None:
        return "-"
    return f"{told_value(entry['low'])} to {told_value(entry['high'])}"


def joined(*notes: str | None) -> str | None:
    """Return the notes that say something, as one, or None."""
    return "; ".join(note for note in notes if note) or None


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
    return _proportion(successes, n, "wilson", level, how)


def clopper_pearson(
    successes: int, n: int, *, level: float = LEVEL, why: str = "no cases"
) -> Estimate:
    """Return a proportion with its exact interval, which never covers less than stated.

    Clopper and Pearson 1934, Biometrika 26:404.
    Arguments as in :func:`wilson`.
    """
    how = f"{successes} of {n}, Clopper-Pearson interval"
    if n == 0:
        return Estimate.undefined(0, why, level=level, how=how)
    return _proportion(successes, n, "exact", level, how)


def _proportion(successes: int, n: int, method: str, level: float, how: str) -> Estimate:
    low, high = binomtest(successes, n).proportion_ci(level, method=method)
    return Estimate(successes / n, float(low), float(high), n, level, how)
