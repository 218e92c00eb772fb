"""The difference of two runs in one number, with an interval for the difference itself.

Two overlapping intervals do not mean that there is no difference: runs that share their real cases,
or the patients whose reports they were asked for, move together. Where cases are at hand they are
left out, or drawn, in both runs at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from voxella.metrics.bootstrap import replicate_draws
from voxella.metrics.distances.frechet_draws import frechet_statistic, frechet_values
from voxella.metrics.distances.kernel import PatientKernels
from voxella.metrics.estimate import LEVEL, Estimate
from voxella.metrics.resampling import Rows
from voxella.metrics.vectors import VectorSet

__all__ = [
    "Draws",
    "frechet_difference",
    "frechet_draws",
    "interval_difference",
    "kernel_difference",
    "shared_draws",
    "units_of",
    "without_each",
]

Values = NDArray[np.float64]


def interval_difference(left: Estimate, right: Estimate) -> Estimate:
    """Return ``left - right`` from two intervals, as if the runs had nothing in common.

    Zou and Donner 2008 (Statistics in Medicine 27:1693): each end of the difference lies as far
    from it as the two ends that pull that way, added as squares. Runs that share cases differ less
    by chance than this says.
    """
    n, level = min(left.n, right.n), min(left.level, right.level)
    assert left.value is not None, "undefined numbers are not compared"
    assert right.value is not None, "undefined numbers are not compared"
    how = "from the two intervals (Zou and Donner 2008); what the runs share is not used"
    value = left.value - right.value
    if left.low is None or left.high is None or right.low is None or right.high is None:
        return Estimate(value, None, None, n, level, how, "a run has no interval")
    down = math.hypot(left.value - left.low, right.high - right.value)
    up = math.hypot(left.high - left.value, right.value - right.low)
    return Estimate(value, value - down, value + up, n, level, how)


def kernel_difference(
    left: PatientKernels, right: PatientKernels, *, level: float = LEVEL
) -> Estimate:
    """Return ``KID(real, left) - KID(real, right)``, a jackknife over patients.

    A patient is left out of the real cases and of both synthetic sets at once (Arvesen 1969).

    Args:
        left: Of the real cases and one run's synthetic ones.
        right: Of the same real cases and another run's.
        level: Coverage.
    """
    units = units_of((left, right))
    without = without_each(left, units) - without_each(right, units)
    error = math.sqrt(float(((without - without.mean()) ** 2).sum()) * (1 - 1 / len(units)))
    half = float(norm.ppf((1 + level) / 2)) * error
    value = left.distance() - right.distance()
    n = min(len(names) for side in (left, right) for names in side.patients)
    how = f"difference of two KID; jackknife over {len(units)} patients, left out of all sets"
    return Estimate(value, value - half, value + half, n, level, how)


def units_of(sides: Sequence[PatientKernels]) -> list[str]:
    """Return the patients of any of the sets, sorted."""
    return sorted({name for side in sides for names in side.patients for name in names})


def without_each(kernels: PatientKernels, units: Sequence[str]) -> Values:
    """Return the distance with each unit left out of both sets, where it is in one or both."""
    places = [_places(names, units) for names in kernels.patients]
    within = [
        np.append(side.without_each(), side.mean(np.arange(len(side.counts))))[rows]
        for side, rows in zip((kernels.real, kernels.synthetic), places, strict=True)
    ]
    # A last row and column of zeros stand for a patient that a set does not have.
    across = np.pad(kernels.across, ((0, 1), (0, 1)))
    n, m = np.append(kernels.real.counts, 0.0), np.append(kernels.synthetic.counts, 0.0)
    x, y = places
    left = across.sum() - across.sum(axis=1)[x] - across.sum(axis=0)[y] + across[x, y]
    return np.asarray(within[0] + within[1] - 2 * left / ((n.sum() - n[x]) * (m.sum() - m[y])))


def _places(names: Sequence[str], units: Sequence[str]) -> NDArray[np.int64]:
    place = {name: number for number, name in enumerate(names)}
    return np.array([place.get(unit, len(names)) for unit in units], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Draws:
    """A distance and its values on draws of patients that other runs have drawn, too.

    Attributes:
        value: Of all cases.
        drawn: By draw.
        patients: Who was drawn: draws of the same patients are the same draws.
    """

    value: float
    drawn: Values
    patients: tuple[str, ...]


def shared_draws(
    real: VectorSet, synthetic: VectorSet, *, seed: int, name: str, replicates: int
) -> Iterator[list[Rows]]:
    """Yield draws of patients that two runs of the same patients have in common.

    Raises:
        UserError: The sets share no patient.
    """
    groups = (real.patients, synthetic.patients)
    return replicate_draws(groups, seed=seed, name=name, paired=True, replicates=replicates)


def frechet_draws(
    real: VectorSet,
    synthetic: VectorSet,
    *,
    seed: int,
    name: str,
    replicates: int,
    device: torch.device | str = "cpu",
    drawn: Values | None = None,
) -> Draws:
    """Return FID of one run on draws that depend on seed, name and patients alone.

    Args:
        real: Vectors of real cases.
        synthetic: Of the run's.
        seed: Of the study.
        name: Of the number.
        replicates: Draws.
        device: Where products are computed.
        drawn: The distance on each of :func:`shared_draws`, where that is known.

    Raises:
        UserError: The sets share no patient, or their vectors differ in width.
    """
    if drawn is None:
        draws = shared_draws(real, synthetic, seed=seed, name=name, replicates=replicates)
        drawn = frechet_values(real, synthetic, draws, device=device)
    distance = frechet_statistic(real, synthetic, device=device)
    value = distance(np.arange(len(real)), np.arange(len(synthetic)))
    return Draws(value, drawn, tuple(sorted({*real.patients, *synthetic.patients})))


def frechet_difference(
    left: Draws, right: Draws, *, n: int, level: float = LEVEL
) -> Estimate | None:
    """Return ``FID(real, left) - FID(real, right)``, a recentred bootstrap over patients.

    At equal N the biases of the two distances are nearly the same and go in the difference.

    Args:
        left: Of one run.
        right: Of another.
        n: Patients behind the smaller set.
        level: Coverage.

    Returns:
        None where the runs drew different patients, or none.
    """
    if left.patients != right.patients or not len(left.drawn) or not len(right.drawn):
        return None
    drawn, value = left.drawn - right.drawn, left.value - right.value
    ends = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    low, high = ends - (np.nanmean(drawn) - value)
    how = (
        f"difference of two FID; recentred bootstrap, {len(drawn)} draws of "
        f"{len(left.patients)} patients, the same for both"
    )
    return Estimate(value, float(low), float(high), n, level, how)
