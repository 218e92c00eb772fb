"""The kernel distance between two sets of feature vectors (KID): unbiased at any N.

Bińkowski et al. 2018 (arXiv 1801.01401), section 4: the unbiased squared maximum mean discrepancy
(Gretton et al. 2012, lemma 6) with the kernel ``(x.y / d + 1)^3``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from voxella.errors import UserError
from voxella.metrics.estimate import LEVEL, Estimate
from voxella.metrics.resampling import Rows, has_repeats, seeded_generator
from voxella.metrics.vectors import VectorSet, same_width

__all__ = ["kernel_distance", "kernel_distance_subsets", "kernel_statistic", "polynomial_kernel"]

Matrix = NDArray[np.float64]
# A kernel matrix of that many rows takes 3.2 GB; beyond it, subsets say the same.
_LARGEST = 20_000


def polynomial_kernel(
    x: Matrix, y: Matrix, *, degree: int = 3, device: torch.device | str = "cpu"
) -> Matrix:
    """Return ``(x.y / d + 1)^degree`` for all pairs of rows, ``(N, M)``."""
    a, b = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
    kernel = ((a @ b.T) / x.shape[1] + 1.0) ** degree
    return np.asarray(kernel.cpu().numpy(), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Kernels:
    """Kernel values within either set, their diagonals set to 0, and across: all that KID needs."""

    xx: Matrix
    yy: Matrix
    xy: Matrix

    def distance(self) -> float:
        n, m = self.xy.shape
        within = self.xx.sum() / (n * (n - 1)) + self.yy.sum() / (m * (m - 1))
        return float(within - 2.0 * self.xy.mean())

    def without_each(self) -> tuple[Matrix, Matrix]:
        """Return the distances with each row of x, and each of y, left out."""
        n, m = self.xy.shape
        x, y, across = self.xx.sum(), self.yy.sum(), self.xy.sum()
        no_x = (x - 2 * self.xx.sum(axis=1)) / ((n - 1) * (n - 2)) + y / (m * (m - 1))
        no_x -= 2 * (across - self.xy.sum(axis=1)) / ((n - 1) * m)
        no_y = (y - 2 * self.yy.sum(axis=1)) / ((m - 1) * (m - 2)) + x / (n * (n - 1))
        no_y -= 2 * (across - self.xy.sum(axis=0)) / (n * (m - 1))
        return no_x, no_y


def kernel_distance(
    real: VectorSet,
    synthetic: VectorSet,
    *,
    level: float = LEVEL,
    device: torch.device | str = "cpu",
) -> Estimate:
    """Return KID of the whole sets; its interval is ``value -+ z`` jackknife standard errors.

    The value may be below zero: it is unbiased, so at zero distance it falls on either side.

    Args:
        real: At least three vectors.
        synthetic: At least three, from the same network.
        level: Coverage.
        device: Where the products are computed.

    Raises:
        UserError: Too few vectors, too many for one matrix, or of different width.
    """
    _check(real, synthetic, smallest=3)
    kernels = _kernels(real.rows(slice(None)), synthetic.rows(slice(None)), device)
    error = _jackknife_error(*kernels.without_each())
    value = kernels.distance()
    half = float(norm.ppf((1 + level) / 2)) * error
    n = min(real.cases, synthetic.cases)
    how = f"unbiased MMD^2 of {len(real)} and {len(synthetic)} vectors; jackknife SE {error:.3g}"
    clustered = has_repeats(real.patients) or has_repeats(synthetic.patients)
    note = (
        "rows of one patient are taken as independent: interval too narrow" if clustered else None
    )
    return Estimate(value, value - half, value + half, n, level, how, note)


def kernel_distance_subsets(
    real: VectorSet,
    synthetic: VectorSet,
    *,
    seed: int,
    name: str,
    subsets: int = 100,
    size: int = 1000,
    level: float = LEVEL,
    device: torch.device | str = "cpu",
) -> Estimate:
    """Return the mean of KID over random subsets, as published numbers are usually taken.

    Args:
        real: Vectors of real cases.
        synthetic: Vectors of synthetic ones.
        seed: With ``name``, decides the subsets.
        name: Of the number.
        subsets: Their number.
        size: Vectors of each set in a subset; at most the smaller set's, drawn without replacement.
        level: Coverage.
        device: Where the products are computed.

    Raises:
        UserError: Too few vectors, or of different width.
    """
    _check(real, synthetic, smallest=2, largest=None)
    size = min(size, len(real), len(synthetic))
    generator = seeded_generator(seed, name)
    values = np.empty(subsets)
    for subset in range(subsets):
        rows = [generator.choice(len(s), size, replace=False) for s in (real, synthetic)]
        values[subset] = _kernels(real.rows(rows[0]), synthetic.rows(rows[1]), device).distance()
    value, error = float(values.mean()), float(values.std(ddof=1) / math.sqrt(subsets))
    half = float(norm.ppf((1 + level) / 2)) * error
    how = f"mean of {subsets} subsets of {size}; SE {error:.3g}"
    note = "the interval is that of the mean over subsets of THESE cases, not over new cases"
    n = min(real.cases, synthetic.cases)
    return Estimate(value, value - half, value + half, n, level, how, note)


def kernel_statistic(
    real: VectorSet, synthetic: VectorSet, *, device: torch.device | str = "cpu"
) -> Callable[[Rows, Rows], float]:
    """Return KID as a function of the rows drawn from either set, for a bootstrap or the floor."""
    _check(real, synthetic, smallest=2)
    x, y = real.rows(slice(None)), synthetic.rows(slice(None))
    xx, yy = polynomial_kernel(x, x, device=device), polynomial_kernel(y, y, device=device)
    xy = polynomial_kernel(x, y, device=device)

    def distance(first: Rows, second: Rows) -> float:
        within = [m[np.ix_(rows, rows)] for m, rows in ((xx, first), (yy, second))]
        for matrix in within:
            np.fill_diagonal(matrix, 0.0)
        return _Kernels(within[0], within[1], xy[np.ix_(first, second)]).distance()

    return distance


def _kernels(x: Matrix, y: Matrix, device: torch.device | str) -> _Kernels:
    xx, yy = polynomial_kernel(x, x, device=device), polynomial_kernel(y, y, device=device)
    np.fill_diagonal(xx, 0.0)
    np.fill_diagonal(yy, 0.0)
    return _Kernels(xx, yy, polynomial_kernel(x, y, device=device))


def _jackknife_error(no_x: Matrix, no_y: Matrix) -> float:
    """Return the standard error from leave-one-out values of both samples (Arvesen 1969)."""
    parts = [((v - v.mean()) ** 2).sum() * (len(v) - 1) / len(v) for v in (no_x, no_y)]
    return math.sqrt(sum(parts))


def _check(
    real: VectorSet, synthetic: VectorSet, *, smallest: int, largest: int | None = _LARGEST
) -> None:
    same_width(real, synthetic)
    few = min(len(real), len(synthetic))
    if few < smallest:
        raise UserError(f"KID of {few} vectors", legal=f"at least {smallest} in each set")
    many = max(len(real), len(synthetic))
    if largest is not None and many > largest:
        raise UserError(
            f"KID of all pairs of {many} vectors",
            legal=f"at most {largest} in each set",
            remedy="take the mean over subsets",
        )
