"""Bootstrap intervals over cases, and the baseline: real cases against other real cases.

Efron and Tibshirani 1993, "An Introduction to the Bootstrap": percentile interval (chapter 13).
Cases of one patient are drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxella.metrics.estimate import LEVEL, Estimate, joined
from voxella.metrics.resampling import ClusterResampler, Rows, halves
from voxella.philox import keyed_generator

__all__ = [
    "Method",
    "baseline_draws",
    "baseline_estimate",
    "bootstrap",
    "mean_estimate",
    "real_baseline",
    "replicate_draws",
]

Method = Literal["percentile", "recentred"]
Statistic = Callable[..., float]
Values = NDArray[np.float64]

# With more undefined replicates than that, the others describe another population.
_MOST_UNDEFINED = 0.1


def bootstrap(
    statistic: Statistic,
    *groups: Sequence[str],
    seed: int,
    name: str,
    paired: bool = False,
    replicates: int = 1000,
    level: float = LEVEL,
    method: Method = "percentile",
    at_least: float | None = None,
    drawn: Values | None = None,
) -> Estimate:
    """Return a statistic of one or several samples with its bootstrap interval.

    ``recentred`` is for distances between samples that grow when cases repeat (FID, KID, and all
    that count neighbours): drawing with replacement makes a replicate a sample of fewer distinct
    cases, so the replicates lie above the value by about as much as the value itself lies above
    its limit at infinite N. The percentile interval, which may then miss the value, is moved down
    by the replicates' mean excess. It says where the statistic AT THIS N may lie, not its limit.

    Args:
        statistic: Takes one array of row numbers per sample, rows repeated as drawn; returns a
            float, NaN where it is undefined (a replicate without positives).
        *groups: For each sample, the unit of each row that is drawn whole: the patient, or the case
            where a patient has one.
        seed: With ``name``, decides the draws.
        name: Of the number, such as ``fid3d/test``.
        paired: The samples share their units; see :class:`ClusterResampler`.
        replicates: Draws.
        level: Coverage.
        method: Which interval.
        at_least: The statistic's smallest possible value; ``recentred`` stops there.
        drawn: The statistic on each of :func:`replicate_draws`, where that is known.

    Raises:
        UserError: A sample is empty, or paired samples share no unit.
    """
    resampler = ClusterResampler(groups, paired=paired)
    n = min(len(set(sample)) for sample in groups)
    value = statistic(*(np.arange(size) for size in resampler.sizes))
    how = f"{method} bootstrap, {replicates} draws of {_units(resampler)}"
    if not np.isfinite(value):
        return Estimate.undefined(n, "not defined on these cases", level=level, how=how)
    if drawn is None:
        draws = _draws(resampler, seed, name, replicates)
        drawn = np.array([statistic(*rows) for rows in draws], dtype=float)
    known = drawn[np.isfinite(drawn)]
    lost = replicates - len(known)
    note = f"{lost} of {replicates} draws were undefined and are left out" if lost else None
    if lost > _MOST_UNDEFINED * replicates:
        return Estimate(float(value), None, None, n, level, how, joined(note, "no interval"))
    low, high, remark = _interval(method, float(value), known, level)
    if at_least is not None:
        low, high = max(low, at_least), max(high, at_least)
    return Estimate(float(value), low, high, n, level, how, joined(note, remark))


def replicate_draws(
    groups: Sequence[Sequence[str]], *, seed: int, name: str, paired: bool, replicates: int
) -> Iterator[list[Rows]]:
    """Yield the rows that each replicate of :func:`bootstrap` is made of, with its arguments."""
    return _draws(ClusterResampler(groups, paired=paired), seed, name, replicates)


def _draws(
    resampler: ClusterResampler, seed: int, name: str, replicates: int
) -> Iterator[list[Rows]]:
    generator = keyed_generator(seed, name)
    return (resampler.draw(generator) for _ in range(replicates))


def mean_estimate(
    values: Sequence[float],
    patients: Sequence[str],
    *,
    seed: int,
    name: str,
    replicates: int,
    level: float,
) -> Estimate:
    """Return the mean of a value for each case, with its interval over patients.

    Args:
        values: One a case.
        patients: Of the same cases.
        seed: Of the draws.
        name: Of the draws: other numbers draw others.
        replicates: How many.
        level: Of the interval.
    """

    def mean(rows: Rows) -> float:
        return fmean(values[row] for row in rows)

    return bootstrap(mean, patients, seed=seed, name=name, replicates=replicates, level=level)


def real_baseline(
    statistic: Statistic,
    groups: Sequence[str],
    *,
    seed: int,
    name: str,
    repeats: int = 20,
    size: int | None = None,
    level: float = LEVEL,
) -> Estimate:
    """Return a two-sample statistic of real cases against OTHER real cases: what perfect scores.

    The real cases are split by patient into two sets, again and again. The value is the median
    over the splits, the interval their quantiles. A statistic that depends on N (FID above all) is
    larger on halves than on the whole: give ``size`` to split at the N of the comparison where
    there are enough real cases.

    Args:
        statistic: Takes the row numbers of the two sets.
        groups: The patient of each row.
        seed: With ``name``, decides the splits.
        name: Of the number.
        repeats: Splits.
        size: Patients in each set; None: half of all.
        level: Share of the splits between ``low`` and ``high``.

    Raises:
        UserError: There are not enough patients.
    """
    splits = baseline_draws(groups, seed=seed, name=name, repeats=repeats, size=size)
    values = np.array([statistic(first, second) for first, second in splits], dtype=float)
    return baseline_estimate(values, groups, size=size, level=level)


def baseline_draws(
    groups: Sequence[str], *, seed: int, name: str, repeats: int, size: int | None
) -> list[tuple[Rows, Rows]]:
    """Return the splits of :func:`real_baseline`, with its arguments.

    Raises:
        UserError: There are not enough patients.
    """
    generator = keyed_generator(seed, f"{name}/floor")
    return [halves(groups, generator, size=size) for _ in range(repeats)]


def baseline_estimate(
    values: Values, groups: Sequence[str], *, size: int | None, level: float
) -> Estimate:
    """Return the baseline whose statistic is known on each of :func:`baseline_draws`."""
    units = len(set(groups)) // 2 if size is None else size
    how = f"{len(values)} splits of real cases into two sets of {units} patients"
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return Estimate.undefined(units, "not defined on such sets", level=level, how=how)
    low, high = _quantiles(known, level)
    note = f"at N {units}: a distance that shrinks with N is compared with care"
    return Estimate(float(np.median(known)), low, high, units, level, how, note)


def _interval(
    method: Method, value: float, drawn: Values, level: float
) -> tuple[float, float, str | None]:
    low, high = _quantiles(drawn, level)
    if method == "recentred":
        excess = float(drawn.mean()) - value
        note = f"draws repeat cases and lay {excess:+.3g} from the value; the interval is moved"
        return low - excess, high - excess, note
    return low, high, None


def _quantiles(values: Values, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _units(resampler: ClusterResampler) -> str:
    return " and ".join(str(size) for size in resampler.cluster_counts) + " units"
