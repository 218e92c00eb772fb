"""KID of vectors that come in patients: slices of a volume, or several volumes of one report.

Bińkowski et al. 2018 (arXiv 1801.01401), section 4: the unbiased squared maximum mean discrepancy
(Gretton et al. 2012, lemma 6) with the kernel ``(x.y / d + 1)^3``. That estimator takes its vectors
for independent. Slices of one patient are not: their kernel values are larger than those of two
patients' slices, and with few patients they are a good part of all pairs, so that even real against
real lies far above zero. Here a pair within a set is of two patients, which is unbiased at any
number of patients, and the jackknife leaves out one patient at a time. With one vector a patient,
both are the same estimator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from voxella.errors import UserError
from voxella.metrics.bootstrap import real_baseline
from voxella.metrics.estimate import LEVEL, Estimate
from voxella.metrics.resampling import Rows
from voxella.metrics.vectors import VectorSet, same_width

__all__ = [
    "PatientKernels",
    "patient_kernel_baseline",
    "patient_kernel_estimate",
    "patient_kernels",
]

Matrix = NDArray[np.float64]
# Rows of a block of the kernel matrix.
_ROWS = 1024
_SMALLEST = 3


@dataclass(frozen=True, eq=False)
class _Within:
    """One set: sums of the kernel by pair of patients, and how many vectors each patient has."""

    sums: Matrix
    counts: Matrix

    def mean(self, units: Rows) -> float:
        """Return the mean over pairs of two different ones of these patients; NaN without any."""
        sums, counts = self.sums[np.ix_(units, units)], self.counts[units]
        pairs = counts.sum() ** 2 - (counts**2).sum()
        return float((sums.sum() - np.trace(sums)) / pairs) if pairs > 0 else float("nan")

    def without_each(self) -> Matrix:
        """Return the mean with each patient left out."""
        n, own = self.counts, np.diag(self.sums)
        total = self.sums.sum() - own.sum() - 2 * (self.sums.sum(axis=1) - own)
        pairs = n.sum() ** 2 - (n**2).sum() - 2 * n * (n.sum() - n)
        return np.asarray(total / pairs)


@dataclass(frozen=True, eq=False)
class PatientKernels:
    """All that KID of two sets needs; build it with :func:`patient_kernels`.

    Attributes:
        real: Pairs within the real set.
        synthetic: Pairs within the synthetic one.
        across: ``(patients, patients)`` sums over pairs of a real and a synthetic vector.
        patients: Of the real and of the synthetic set, sorted, as the matrices are.
        told: The sizes in words.
    """

    real: _Within
    synthetic: _Within
    across: Matrix
    patients: tuple[tuple[str, ...], tuple[str, ...]]
    told: str

    def distance(self) -> float:
        """Return the distance of the whole sets."""
        between = self.across.sum() / (self.real.counts.sum() * self.synthetic.counts.sum())
        whole = [np.arange(len(patients)) for patients in self.patients]
        within = self.real.mean(whole[0]) + self.synthetic.mean(whole[1])
        return float(within - 2 * between)


def patient_kernels(
    real: VectorSet, synthetic: VectorSet, *, device: torch.device | str = "cpu"
) -> PatientKernels:
    """Return the sums of the kernel ``(x.y / d + 1)^3`` by pair of patients.

    Args:
        real: Vectors of at least three patients.
        synthetic: The same, from the same network.
        device: Where the products are computed, in float64.

    Raises:
        UserError: Too few patients, or vectors of different width.
    """
    same_width(real, synthetic)
    few = min(len(set(real.patients)), len(set(synthetic.patients)))
    if few < _SMALLEST:
        raise UserError(
            f"KID of {few} case(s)", expected=f"at least {_SMALLEST} patients in each set"
        )
    x, y = (torch.from_numpy(s.rows(slice(None))).to(device) for s in (real, synthetic))
    (names, places), (others, there) = (_numbered(s.patients) for s in (real, synthetic))
    return PatientKernels(
        _Within(_summed(x, places, x, places), _sizes(places)),
        _Within(_summed(y, there, y, there), _sizes(there)),
        _summed(x, places, y, there),
        (names, others),
        f"{len(names)} and {len(others)} patients ({len(real)} and {len(synthetic)} vectors)",
    )


def patient_kernel_estimate(
    kernels: PatientKernels, *, paired: bool = False, level: float = LEVEL
) -> Estimate:
    """Return KID; its interval is ``value -+ z`` jackknife standard errors over patients.

    Args:
        kernels: Of the two sets.
        paired: The sets share their patients (a volume made from each one's report): a patient is
            left out of both.
        level: Coverage.

    Raises:
        ValueError: ``paired``, and the patients differ.
    """
    names, others = kernels.patients
    if paired and names != others:
        raise ValueError("paired sets have the same patients")
    value, error = kernels.distance(), _jackknife_error(kernels, paired=paired)
    half = float(norm.ppf((1 + level) / 2)) * error
    how = (
        f"unbiased MMD^2 of {kernels.told}, pairs of two patients; "
        f"jackknife over patients, SE {error:.3g}"
    )
    return Estimate(value, value - half, value + half, min(len(names), len(others)), level, how)


def patient_kernel_baseline(
    kernels: PatientKernels,
    *,
    seed: int,
    name: str,
    repeats: int = 20,
    size: int | None = None,
    level: float = LEVEL,
) -> Estimate:
    """Return KID of real patients against other real ones; see :func:`real_baseline`.

    Args:
        kernels: Of the comparison; its real half is used.
        seed: With ``name``, decides the splits.
        name: Of the number.
        repeats: Splits.
        size: Patients in each set; None: half of all.
        level: Share of the splits between ``low`` and ``high``.

    Raises:
        UserError: There are not enough patients.
    """
    within = kernels.real

    def distance(first: Rows, second: Rows) -> float:
        between = within.sums[np.ix_(first, second)].sum()
        between /= within.counts[first].sum() * within.counts[second].sum()
        return within.mean(first) + within.mean(second) - 2 * float(between)

    return real_baseline(
        distance, kernels.patients[0], seed=seed, name=name, repeats=repeats, size=size, level=level
    )


def _jackknife_error(kernels: PatientKernels, *, paired: bool) -> float:
    """Return the standard error from values with one patient left out (Arvesen 1969)."""
    n, m, across = kernels.real.counts, kernels.synthetic.counts, kernels.across
    no_x, no_y = kernels.real.without_each(), kernels.synthetic.without_each()
    if paired:
        left = across.sum() - across.sum(axis=1) - across.sum(axis=0) + np.diag(across)
        both = no_x + no_y - 2 * left / ((n.sum() - n) * (m.sum() - m))
        return math.sqrt(_spread(both))
    x = no_x - 2 * (across.sum() - across.sum(axis=1)) / ((n.sum() - n) * m.sum())
    y = no_y - 2 * (across.sum() - across.sum(axis=0)) / (n.sum() * (m.sum() - m))
    return math.sqrt(_spread(x) + _spread(y))


def _spread(left_out: Matrix) -> float:
    size = len(left_out)
    return float(((left_out - left_out.mean()) ** 2).sum() * (size - 1) / size)


def _summed(x: Tensor, of_x: Tensor, y: Tensor, of_y: Tensor) -> Matrix:
    """Return the kernel summed by patient of x and patient of y, block by block."""
    of_x, of_y = of_x.to(x.device), of_y.to(x.device)
    found = x.new_zeros(int(of_x.max()) + 1, int(of_y.max()) + 1)
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        kernel = ((x[rows] @ y.T) / x.shape[1] + 1.0) ** 3
        columns = kernel.new_zeros(len(kernel), found.shape[1]).index_add_(1, of_y, kernel)
        found.index_add_(0, of_x[rows], columns)
    return np.asarray(found.cpu().numpy(), dtype=np.float64)


def _numbered(patients: Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    names = sorted(set(patients))
    place = {name: number for number, name in enumerate(names)}
    return tuple(names), torch.tensor([place[name] for name in patients])


def _sizes(places: Tensor) -> Matrix:
    return np.bincount(places.numpy()).astype(np.float64)
