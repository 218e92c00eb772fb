"""The Fréchet distance between two sets of feature vectors (FID), in float64.

Dowson and Landau 1982; as a measure of generated images Heusel et al. 2017 (arXiv 1706.08500),
equation 6: ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from voxella.errors import UserError
from voxella.metrics.bootstrap import bootstrap, real_floor
from voxella.metrics.estimate import LEVEL, Estimate, joined
from voxella.metrics.resampling import Rows
from voxella.metrics.vectors import VectorSet, same_width

__all__ = [
    "Moments",
    "frechet_distance",
    "frechet_estimate",
    "frechet_floor",
    "frechet_statistic",
    "moments",
    "rank_problem",
]

Device = torch.device | str
# Rows converted to float64 at a time.
_ROWS = 8192


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean ``(d,)`` and unbiased covariance ``(d, d)`` of ``n`` vectors, float64."""

    n: int
    mean: Tensor
    covariance: Tensor


def moments(vectors: Tensor, counts: Tensor | None = None) -> Moments:
    """Return mean and covariance of rows, in two passes, in float64 on the vectors' device.

    Args:
        vectors: ``(N, d)`` floating.
        counts: ``(N,)``, how often each row counts; None: once.
    """
    counts = torch.ones(len(vectors)) if counts is None else counts
    counts = counts.to(vectors.device, torch.float64)
    n, width = int(counts.sum()), vectors.shape[1]
    if n < 2:
        raise ValueError("a covariance needs two vectors")
    blocks = [slice(start, start + _ROWS) for start in range(0, len(vectors), _ROWS)]
    products = torch.zeros((width, width), dtype=torch.float64, device=vectors.device)
    total = torch.zeros_like(products[0])
    for rows in blocks:
        total += counts[rows] @ vectors[rows].double()
    mean = total / n
    for rows in blocks:
        centred = (vectors[rows].double() - mean) * counts[rows].sqrt()[:, None]
        products += centred.T @ centred
    return Moments(n, mean, products / (n - 1))


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the squared Fréchet distance of two Gaussians.

    ``S1 S2`` has the eigenvalues of ``S1^(1/2) S2 S1^(1/2)``, which is symmetric: two symmetric
    eigendecompositions, and no complex part to be thrown away.
    """
    values, vectors = torch.linalg.eigh(first.covariance)
    root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
    product = root @ second.covariance @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0.0).sqrt().sum()
    spread = first.covariance.trace() + second.covariance.trace() - 2 * cross
    # Rounding alone makes the distance of equal sets negative.
    return max(float((first.mean - second.mean).square().sum() + spread), 0.0)


def rank_problem(n: int, dim: int) -> str | None:
    """Say why ``n`` vectors of ``dim`` numbers give no sound distance, or None where they do.

    The rule: N > d. Otherwise the covariance has rank N - 1 < d and the distance sees only the
    directions that the sample happens to span (Heusel et al. ask for more samples than features
    in the notes to their code). Above d it is still biased, by an amount that depends on N and on
    the model (Chong and Forsyth 2020, arXiv 1911.07023), so compare only at equal N.
    """
    if n > dim:
        return None
    return (
        f"{n} vectors of {dim} features: their covariance has rank {n - 1} at most, "
        "so the Fréchet distance is too large by an amount that depends on N and on the model"
    )


def frechet_statistic(
    real: VectorSet, synthetic: VectorSet, *, device: Device = "cpu"
) -> Callable[[Rows, Rows], float]:
    """Return the distance as a function of the rows drawn from either set.

    With more rows than features each call takes the moments of the rows drawn. With fewer, the
    cross term ``tr (S1 S2)^(1/2)`` is the sum of the singular values of ``A B^T`` for the centred
    data matrices A and B (Mathiasen and Hvilshøj 2020, arXiv 2009.14075), which is a centred block
    of one matrix computed once.
    """
    same_width(real, synthetic)
    x, y = (torch.from_numpy(np.array(s.values)).to(device) for s in (real, synthetic))
    if min(len(real), len(synthetic)) > real.dim:
        return lambda first, second: frechet_distance(
            moments(x, _counts(first, len(x))), moments(y, _counts(second, len(y)))
        )
    middle = x.double().mean(dim=0)
    a, b = x.double() - middle, y.double() - middle
    products = a @ b.T

    def distance(first: Rows, second: Rows) -> float:
        rows, columns = torch.from_numpy(first).to(device), torch.from_numpy(second).to(device)
        scale = math.sqrt((len(first) - 1) * (len(second) - 1))
        means = (a[rows].mean(dim=0) - b[columns].mean(dim=0)).square().sum()
        spread = a[rows].var(dim=0).sum() + b[columns].var(dim=0).sum()
        shared = torch.linalg.svdvals(_centred(products[rows][:, columns])).sum() / scale
        return max(float(means + spread - 2 * shared), 0.0)

    return distance


def frechet_estimate(
    real: VectorSet,
    synthetic: VectorSet,
    *,
    seed: int,
    name: str,
    paired: bool = False,
    replicates: int = 200,
    level: float = LEVEL,
    singular: Literal["refuse", "note"] = "refuse",
    device: Device = "cpu",
) -> Estimate:
    """Return the Fréchet distance with a recentred bootstrap interval over patients.

    Args:
        real: Vectors of real cases.
        synthetic: Vectors of synthetic ones, from the same network.
        seed: With ``name``, decides the draws.
        name: Of the number.
        paired: Real and synthetic cases share their patients (one volume per report).
        replicates: Draws; 0: no interval. Each costs as much as the distance itself.
        level: Coverage.
        singular: What to do where N <= d, see :func:`rank_problem`. ``note`` is for repeating a
            published number that was taken this way, such as the paper's 3D FID (740 cases, 2048
            features); the estimate then carries a warning.
        device: Where the products and decompositions are computed.

    Raises:
        UserError: N <= d and ``singular`` is ``refuse``, or N < 2; or the vectors differ in width.
    """
    same_width(real, synthetic)
    fewest = min(len(real), len(synthetic))
    if fewest < 2:
        raise UserError(f"a set of {fewest} vector has no covariance", legal="two and more")
    problem = rank_problem(fewest, real.dim)
    if problem is not None and singular == "refuse":
        raise UserError(
            problem,
            legal=f"more than {real.dim} vectors in each set",
            remedy="report the kernel distance (KID), which is unbiased at any N",
        )
    distance = frechet_statistic(real, synthetic, device=device)
    how = f"Fréchet distance of {_told(real)} and {_told(synthetic)}"
    if replicates == 0:
        value = distance(np.arange(len(real)), np.arange(len(synthetic)))
        n = min(len(set(real.patients)), len(set(synthetic.patients)))
        return Estimate(value, None, None, n, level, how, problem, problem)
    found = bootstrap(
        distance,
        real.patients,
        synthetic.patients,
        seed=seed,
        name=name,
        paired=paired,
        replicates=replicates,
        level=level,
        method="recentred",
        at_least=0.0,
    )
    return replace(
        found, how=f"{how}; {found.how}", note=joined(problem, found.note), warning=problem
    )


def frechet_floor(
    real: VectorSet,
    *,
    seed: int,
    name: str,
    repeats: int = 20,
    size: int | None = None,
    level: float = LEVEL,
    device: Device = "cpu",
) -> Estimate:
    """Return the distance of real cases from other real cases; see :func:`real_floor`.

    Where the sets are too small for the features, the floor is noted to be so, never refused: it
    then says how far from zero a perfect generator would be put.

    Args:
        real: Vectors of real cases.
        seed: With ``name``, decides the splits.
        name: Of the number.
        repeats: Splits.
        size: Patients in each set; None: half of all.
        level: Share of the splits between ``low`` and ``high``.
        device: Where the products and decompositions are computed.

    Raises:
        UserError: There are not enough patients.
    """
    distance = frechet_statistic(real, real, device=device)
    found = real_floor(
        distance, real.patients, seed=seed, name=name, repeats=repeats, size=size, level=level
    )
    rows = found.n * len(real) // len(set(real.patients))
    note = joined(rank_problem(rows, real.dim), found.note)
    return Estimate(found.value, found.low, found.high, found.n, level, found.how, note)


def _counts(rows: Rows, size: int) -> Tensor:
    return torch.from_numpy(np.bincount(rows, minlength=size))


def _centred(matrix: Tensor) -> Tensor:
    """Take the means of rows and columns out: ``H M H`` with the centring matrix H."""
    rows = matrix.mean(dim=1, keepdim=True)
    return matrix - rows - matrix.mean(dim=0) + rows.mean()


def _told(vectors: VectorSet) -> str:
    rows = "" if len(vectors) == vectors.cases else f" ({len(vectors)} vectors)"
    return f"{vectors.cases} {vectors.what} cases{rows}"
