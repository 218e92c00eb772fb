"""How much of the real the synthetic covers, and the other way round, by nearest neighbours.

Precision and recall: Kynkäänniemi et al. 2019 (arXiv 1904.06991), equations 1 and 2. Density and
coverage: Naeem et al. 2020 (arXiv 2002.09797), section 3; density is not thrown off by one real
outlier with a wide ball.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.metrics.bootstrap import bootstrap
from voxella.metrics.estimate import LEVEL, Estimate, joined, wilson
from voxella.metrics.resampling import Rows, has_repeats
from voxella.metrics.vectors import VectorSet, nearest, same_width, squared_distances

__all__ = ["Membership", "coverage_estimates", "membership"]

_CONDITIONAL = "for the other set as it is: only the cases counted are taken as a sample"


@dataclass(frozen=True, eq=False)
class Membership:
    """Who lies in whose ball; a ball reaches to its centre's k-th nearest neighbour in its own set.

    Attributes:
        balls: ``(M,)``, in how many real balls each synthetic vector lies.
        reached: ``(N,)``, whether each real vector lies in some synthetic ball.
        visited: ``(N,)``, whether each real ball holds a synthetic vector.
        k: Neighbours.
    """

    balls: NDArray[np.int64]
    reached: NDArray[np.bool_]
    visited: NDArray[np.bool_]
    k: int


def membership(
    real: VectorSet, synthetic: VectorSet, k: int, *, device: torch.device | str = "cpu"
) -> Membership:
    """Return who lies in whose ball, boundaries included.

    Args:
        real: N vectors.
        synthetic: M vectors.
        k: Neighbours that size a ball, below N and M.
        device: Where the products are computed.

    Raises:
        UserError: A set has no k-th neighbour, or the vectors differ in width.
    """
    same_width(real, synthetic)
    for vectors in (real, synthetic):
        if len(vectors) <= k:
            raise UserError(
                f"{len(vectors)} {vectors.what} vectors have no {k} neighbours each",
                expected=f"more than {k} vectors in each set",
            )
    real_radii = _squared_radii(real, k, device)
    synthetic_radii = _squared_radii(synthetic, k, device)
    balls = torch.zeros(len(synthetic), dtype=torch.int64, device=device)
    reached = torch.zeros(len(real), dtype=torch.bool, device=device)
    visited = torch.zeros(len(real), dtype=torch.bool, device=device)
    blocks = squared_distances(real.values, synthetic.values, device=device)
    for rows, columns, block in blocks:
        in_real = block <= real_radii[rows, None]
        balls[columns] += in_real.sum(dim=0)
        visited[rows] |= in_real.any(dim=1)
        reached[rows] |= (block <= synthetic_radii[columns]).any(dim=1)
    return Membership(balls.cpu().numpy(), reached.cpu().numpy(), visited.cpu().numpy(), k)


def coverage_estimates(
    real: VectorSet,
    synthetic: VectorSet,
    *,
    seed: int,
    name: str,
    precision_k: int = 3,
    density_k: int = 5,
    replicates: int = 1000,
    level: float = LEVEL,
    device: torch.device | str = "cpu",
) -> dict[str, Estimate]:
    """Return ``precision``, ``recall``, ``density`` and ``coverage``.

    Cases drawn twice would be each other's nearest neighbour at distance 0, so no bootstrap of the
    sets themselves is sound here. The intervals are conditional: Wilson's for the shares, a
    bootstrap of the mean for density; where patients have several cases, a bootstrap over
    patients for all four.

    Args:
        real: Vectors of real cases.
        synthetic: Vectors of synthetic ones.
        seed: With ``name``, decides the draws.
        name: Of the numbers.
        precision_k: Neighbours for precision and recall; 3 in the paper.
        density_k: Neighbours for density and coverage; 5 in the paper.
        replicates: Draws.
        level: Coverage of the intervals.
        device: Where the products are computed.

    Raises:
        UserError: Too few vectors for so many neighbours, or vectors of different width.
    """
    near = membership(real, synthetic, precision_k, device=device)
    dense = membership(real, synthetic, density_k, device=device)

    def mean(values: NDArray[np.generic], of: VectorSet, metric: str) -> Estimate:
        return bootstrap(
            _mean_of(values.astype(np.float64)),
            of.patients,
            seed=seed,
            name=f"{name}/{metric}",
            replicates=replicates,
            level=level,
        )

    def share(hits: NDArray[np.bool_], of: VectorSet, metric: str) -> Estimate:
        if has_repeats(of.patients):
            return mean(hits, of, metric)
        return wilson(int(hits.sum()), len(hits), level=level)

    found = {
        "precision": share(near.balls > 0, synthetic, "precision"),
        "recall": share(near.reached, real, "recall"),
        "density": mean(dense.balls / density_k, synthetic, "density"),
        "coverage": share(dense.visited, real, "coverage"),
    }
    return {metric: _conditional(estimate) for metric, estimate in found.items()}


def _squared_radii(vectors: VectorSet, k: int, device: torch.device | str) -> torch.Tensor:
    distances, _ = nearest(vectors.values, vectors.values, k, itself=True, device=device)
    return torch.from_numpy(distances[:, -1] ** 2).to(device)


def _mean_of(values: NDArray[np.float64]) -> Callable[[Rows], float]:
    return lambda rows: float(values[rows].mean())


def _conditional(estimate: Estimate) -> Estimate:
    note = joined(_CONDITIONAL, estimate.note)
    return Estimate(
        estimate.value, estimate.low, estimate.high, estimate.n, estimate.level, estimate.how, note
    )
