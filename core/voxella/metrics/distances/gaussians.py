"""Gaussians fitted to feature vectors, and the Fréchet distance between two, in float64.

Dowson and Landau 1982; as a measure of generated images Heusel et al. 2017 (arXiv 1706.08500),
equation 6: ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "frechet_distance", "moments"]

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

    ``S1 S2`` has the eigenvalues of ``L' S2 L`` for any ``L L' = S1``, which is symmetric: no
    complex part to be thrown away. L is S1's Cholesky factor, or where S1 is singular its root.
    """
    spread = first.covariance.trace() + second.covariance.trace()
    # Features that never change take no part in S1 S2, and would make S1 singular.
    alive = first.covariance.diagonal() > 0
    one, other = (m.covariance[alive][:, alive] for m in (first, second))
    factor = _factor(one)
    product = factor.T @ other @ factor
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0.0).sqrt().sum()
    # Rounding alone makes the distance of equal sets negative.
    return max(float((first.mean - second.mean).square().sum() + spread - 2 * cross), 0.0)


def _factor(covariance: Tensor) -> Tensor:
    """Return L with ``L L' = covariance``."""
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not bool(failed):
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0.0).sqrt()
    return root
