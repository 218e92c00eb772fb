"""Synthetic vectors nearer to a training case than chance allows: what the gate counts.

:func:`voxella.metrics.memorisation.memorisation` counts what is nearer than 5 % of the unseen real
cases are; a generator that copies nothing then has 5 %. That is a measure, and no ground to refuse
a data set. Here the threshold is a tail of one in a thousand. So far out there are no unseen cases
to count, so a distribution is fitted to them: the one that the nearest of many follows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from voxella.metrics.estimate import LEVEL, Estimate, clopper_pearson
from voxella.metrics.memorisation import isolation
from voxella.metrics.vectors import VectorSet, same_width

__all__ = ["NearDuplicates", "beyond_chance", "chance_bound"]

# A new real case falls below the bound with this probability.
_TAIL = 1e-3
# Twenty times nearer to one training case than to the next ones: a copy whatever the unseen say.
_CERTAIN = 0.05
_NEIGHBOURS = 50


@dataclass(frozen=True)
class NearDuplicates:
    """How many synthetic cases lie beyond chance.

    Attributes:
        share: Of the synthetic cases, Clopper-Pearson interval.
        threshold: On the ratio of distances.
        ids: Of those cases, nearest first.
    """

    share: Estimate
    threshold: float
    ids: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON-ready data."""
        return asdict(self)


def beyond_chance(
    synthetic: VectorSet,
    training: VectorSet,
    unseen: VectorSet,
    *,
    neighbours: int = _NEIGHBOURS,
    level: float = LEVEL,
    device: torch.device | str = "cpu",
) -> NearDuplicates:
    """Return the synthetic cases whose ratio lies below :func:`chance_bound` of the unseen ones.

    Args:
        synthetic: One vector per synthetic case.
        training: The model's training cases.
        unseen: Real cases of other patients.
        neighbours: After the nearest; see :func:`voxella.metrics.memorisation.isolation`.
        level: Coverage.
        device: Where the products are computed.

    Raises:
        UserError: Vectors differ in width, or there are fewer than three training cases.
    """
    same_width(training, synthetic)
    same_width(training, unseen)
    _, ratios, _ = isolation(synthetic, training, neighbours, device=device)
    _, reference, _ = isolation(unseen, training, neighbours, device=device)
    threshold = chance_bound(reference)
    found = [row for row in np.argsort(ratios, kind="stable") if ratios[row] < threshold]
    share = clopper_pearson(len(found), len(ratios), level=level)
    how = f"{share.how}; ratio below {threshold:.3g}, from {len(reference)} unseen real cases"
    estimate = Estimate(share.value, share.low, share.high, share.n, level, how)
    return NearDuplicates(estimate, threshold, tuple(synthetic.ids[row] for row in found))


def chance_bound(ratios: NDArray[np.float64], tail: float = _TAIL) -> float:
    """Return the ratio below which one more case such as these falls with probability ``tail``.

    The distance to the nearest of many is a minimum, so its logarithm has the lower tail of an
    extreme-value distribution (Gumbel 1958), longer than a normal one's: the bound lies
    ``(g + log(-log(1 - tail))) sqrt(6) / pi`` standard deviations from the mean, with Euler's g. In
    a small sample mean and deviation are uncertain; the distance is lengthened as that of a normal
    sample's prediction bound is, ``t sqrt(1 + 1/N) / z``. Never above the smallest ratio seen, and
    never below the ratio that is a copy whatever the sample says.
    """
    positive = ratios[ratios > 0]
    if len(positive) < 2:
        return _CERTAIN
    logs, size = np.log(positive), len(positive)
    steps = (float(np.euler_gamma) + math.log(-math.log1p(-tail))) * math.sqrt(6) / math.pi
    steps *= float(student.ppf(tail, size - 1) / norm.ppf(tail)) * math.sqrt(1 + 1 / size)
    bound = math.exp(float(logs.mean()) + steps * float(logs.std(ddof=1)))
    return max(min(bound, float(ratios.min())), _CERTAIN)
