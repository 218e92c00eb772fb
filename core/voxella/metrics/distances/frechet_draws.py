"""The Fréchet distance on many draws of patients: what its intervals and baselines are made of.

A draw takes patients whole, so its mean and covariance are sums of theirs, each as often as it was
drawn. Each patient's sums are taken once for a block of draws; taking the moments of all rows anew
for each draw, hundreds of slices a patient, costs many times as much. Several processes each take
some of the blocks. Blocks are cut alike whoever computes them, since what shares a block with a
draw touches the last bits of its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxella.metrics.distances.gaussians import Moments, frechet_distance, moments
from voxella.metrics.resampling import Rows, rows_of_units
from voxella.metrics.vectors import VectorSet, same_width

__all__ = ["draws_in_a_block", "frechet_statistic", "frechet_values"]

Device = torch.device | str
Values = NDArray[np.float64]
_Draw = Sequence[Rows]
# Of a block, unless its covariances take more than that; and of patients' sums at a time.
_DRAWS, _BYTES, _PATIENT_BYTES = 25, 2**30, 2**28


def frechet_statistic(
    real: VectorSet, synthetic: VectorSet, *, device: Device = "cpu"
) -> Callable[[Rows, Rows], float]:
    """Return the distance as a function of the rows drawn from either set.

    With more rows than features each call takes the moments of the rows drawn. With fewer, the
    cross term ``tr (S1 S2)^(1/2)`` is the sum of the singular values of ``A B^T`` for the centred
    data matrices A and B (Mathiasen and Hvilshøj 2020, arXiv 2009.14075), which is a centred block
    of one matrix computed once. Fewer than two rows have no covariance: NaN.
    """
    same_width(real, synthetic)
    x, y = (torch.from_numpy(np.array(s.values)).to(device) for s in (real, synthetic))
    if min(len(real), len(synthetic)) > real.dim:
        return lambda first, second: (
            math.nan
            if min(len(first), len(second)) < 2
            else frechet_distance(
                moments(x, _counts(first, len(x))), moments(y, _counts(second, len(y)))
            )
        )
    middle = x.double().mean(dim=0)
    a, b = x.double() - middle, y.double() - middle
    products = a @ b.T

    def distance(first: Rows, second: Rows) -> float:
        if min(len(first), len(second)) < 2:
            return math.nan
        rows, columns = torch.from_numpy(first).to(device), torch.from_numpy(second).to(device)
        scale = math.sqrt((len(first) - 1) * (len(second) - 1))
        means = (a[rows].mean(dim=0) - b[columns].mean(dim=0)).square().sum()
        spread = a[rows].var(dim=0).sum() + b[columns].var(dim=0).sum()
        shared = torch.linalg.svdvals(_centred(products[rows][:, columns])).sum() / scale
        return max(float(means + spread - 2 * shared), 0.0)

    return distance


def frechet_values(
    real: VectorSet,
    synthetic: VectorSet,
    draws: Iterable[_Draw],
    *,
    blocks: tuple[int, int] = (0, 1),
    device: Device = "cpu",
    advance: Callable[[], None] = lambda: None,
) -> Values:
    """Return the distance on each draw; :func:`frechet_statistic` of each, in less time.

    Args:
        real: Vectors of real cases.
        synthetic: Of synthetic ones, or the real set once more.
        draws: The rows of either set; those of a patient all equally often.
        blocks: Of all blocks of draws compute the first and every so many-th, no others.
        device: Where the products and decompositions are computed.
        advance: Called after each draw.
    """
    same_width(real, synthetic)
    compute = _of_block(real, synthetic, device)
    cut = _cut(draws, draws_in_a_block(real.dim))
    values: list[float] = []
    for block in islice(cut, blocks[0], None, blocks[1]):
        for value in compute(block):
            values.append(value)
            advance()
    return np.array(values, dtype=np.float64)


def draws_in_a_block(width: int) -> int:
    """Return how many draws of vectors of so many features are computed together."""
    return max(1, min(_DRAWS, _BYTES // (8 * width**2)))


def _cut(draws: Iterable[_Draw], size: int) -> Iterator[list[_Draw]]:
    waiting = iter(draws)
    while block := list(islice(waiting, size)):
        yield block


def _of_block(
    real: VectorSet, synthetic: VectorSet, device: Device
) -> Callable[[Sequence[_Draw]], Iterator[float]]:
    if min(len(real), len(synthetic)) <= real.dim:
        distance = frechet_statistic(real, synthetic, device=device)
        return lambda block: (distance(first, second) for first, second in block)
    sides = [_Patients(side, device) for side in (real, synthetic)]

    def compute(block: Sequence[_Draw]) -> Iterator[float]:
        counts = [np.stack([s.counts(draw[n]) for draw in block]) for n, s in enumerate(sides)]
        pairs = zip(sides[0].moments(counts[0]), sides[1].moments(counts[1]), strict=True)
        for one, other in pairs:
            if one is None or other is None:
                yield math.nan
            else:
                yield frechet_distance(one, other)

    return compute


class _Patients:
    """One set by patient.

    Args:
        vectors: The set.
        device: Where products are computed.
    """

    def __init__(self, vectors: VectorSet, device: Device) -> None:
        self._vectors = vectors
        self._device = device
        self._rows = list(rows_of_units(vectors.patients).values())
        self._sizes = np.array([len(rows) for rows in self._rows])
        # Near the middle of the cloud, products do not cancel.
        total = sum(vectors.rows(rows).sum(axis=0) for rows in self._rows)
        self._middle = torch.as_tensor(total / len(vectors), device=device)

    def counts(self, rows: Rows) -> Values:
        """Return how often a draw took each patient, ``(patients,)``.

        Raises:
            ValueError: It took a part of a patient.
        """
        drawn = np.bincount(rows, minlength=len(self._vectors))
        counts = np.array([drawn[own[0]] for own in self._rows], dtype=np.float64)
        if len(rows) != int(counts @ self._sizes):
            raise ValueError("a draw takes patients whole")
        return counts

    def moments(self, counts: Values) -> Iterator[Moments | None]:
        """Yield mean and covariance of each draw; None of fewer than two rows.

        Args:
            counts: ``(draws, patients)``.
        """
        weights = torch.from_numpy(counts).to(self._device)
        width = self._vectors.dim
        sums = weights.new_zeros(len(counts), width)
        products = weights.new_zeros(len(counts), width**2)
        for patients, means, scatters in self._sums(np.arange(len(self._rows))):
            sums.addmm_(weights[:, patients], means)
            products.addmm_(weights[:, patients], scatters)
        for number, n in enumerate((counts @ self._sizes).astype(int)):
            if n < 2:
                yield None
                continue
            mean = sums[number] / n
            covariance = products[number].view(width, width)
            covariance.addr_(mean, mean, alpha=-float(n)).div_(n - 1)
            yield Moments(int(n), mean + self._middle, covariance)

    def _sums(self, patients: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield patients, their sums ``(p, d)`` and sums of products ``(p, d * d)``, off centre."""
        width = self._vectors.dim
        step = max(1, _PATIENT_BYTES // (8 * width**2))
        for start in range(0, len(patients), step):
            few = patients[start : start + step]
            sums = self._middle.new_empty(len(few), width)
            products = self._middle.new_empty(len(few), width, width)
            for place, patient in enumerate(few):
                own = torch.from_numpy(self._vectors.rows(self._rows[patient]))
                own = own.to(self._device) - self._middle
                sums[place] = own.sum(dim=0)
                torch.mm(own.T, own, out=products[place])
            yield torch.from_numpy(few), sums, products.view(len(few), -1)


def _counts(rows: Rows, size: int) -> Tensor:
    return torch.from_numpy(np.bincount(rows, minlength=size))


def _centred(matrix: Tensor) -> Tensor:
    """Take the means of rows and columns out: ``H M H`` with the centring matrix H."""
    rows = matrix.mean(dim=1, keepdim=True)
    return matrix - rows - matrix.mean(dim=0) + rows.mean()
