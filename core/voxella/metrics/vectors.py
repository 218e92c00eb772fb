"""Feature vectors: checked once, named by case, and their distances block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxella.errors import UserError
from voxella.wording import listed

__all__ = ["VectorSet", "nearest", "same_width", "squared_distances"]

Floats = NDArray[np.floating]
_SHOWN = 8
# Numbers per block of vectors (256 MiB in float64), and rows per block of distances.
_BLOCK = 2**25
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class VectorSet:
    """Vectors of one set of cases; build it with :meth:`of`, which checks them.

    Attributes:
        values: ``(N, d)`` floating, one row per case or per slice. May be a memory map: it is
            converted to float64 block by block, never as a whole.
        ids: The case of each row.
        patients: The patient of each row: what is drawn whole in a bootstrap.
        what: ``real``, ``synthetic``...; for messages.
    """

    values: Floats
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    what: str

    @classmethod
    def of(
        cls,
        values: Floats,
        ids: Sequence[str],
        *,
        patients: Sequence[str] | None = None,
        what: str = "given",
    ) -> VectorSet:
        """Return the set after checking it. ``patients`` None: every case is its own patient.

        Raises:
            UserError: The set is empty, or rows hold NaN or infinity; their cases are named.
            ValueError: The shapes do not fit together.
        """
        patients = ids if patients is None else patients
        if values.ndim != 2 or len(ids) != len(values) or len(patients) != len(values):
            raise ValueError(f"{values.shape} vectors, {len(ids)} ids, {len(patients)} patients")
        if len(values) == 0:
            raise UserError(f"there are no {what} vectors", remedy="look at the split's cases")
        _refuse_non_finite(values, ids, what)
        return cls(values, tuple(ids), tuple(patients), what)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Return the width of a vector."""
        return int(self.values.shape[1])

    @property
    def cases(self) -> int:
        """Return the number of distinct cases."""
        return len(set(self.ids))

    def rows(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """Return some rows as float64."""
        return np.asarray(self.values[rows], dtype=np.float64)


def same_width(first: VectorSet, second: VectorSet) -> None:
    """Check that two sets come from the same network.

    Raises:
        UserError: Their vectors differ in width.
    """
    if first.dim != second.dim:
        raise UserError(
            f"{first.what} vectors have {first.dim} numbers, {second.what} ones {second.dim}",
            remedy="take the features of both from the same network",
        )


def squared_distances(
    queries: Floats, reference: Floats, *, device: torch.device | str = "cpu"
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield row range, column range and that block of squared distances, float64.

    ``|x|^2 + |y|^2 - 2 x.y`` after moving the origin to the middle of the reference: far from the
    origin the three terms would cancel to noise.
    """
    step = max(1, min(_BLOCK // max(queries.shape[1], 1), _ROWS))
    origin = _block(reference, slice(0, step), device).mean(dim=0)
    for start in range(0, len(reference), step):
        columns = slice(start, min(start + step, len(reference)))
        y = _block(reference, columns, device) - origin
        for first in range(0, len(queries), step):
            rows = slice(first, min(first + step, len(queries)))
            x = _block(queries, rows, device) - origin
            block = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * (x @ y.T)
            yield rows, columns, block.clamp_(min=0.0)


def nearest(
    queries: Floats,
    reference: Floats,
    k: int,
    *,
    itself: bool = False,
    device: torch.device | str = "cpu",
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return distances and row numbers of the ``k`` nearest reference vectors, nearest first.

    Args:
        queries: ``(N, d)``.
        reference: ``(M, d)``.
        k: At most M, or M - 1 with ``itself``.
        itself: ``queries`` is ``reference``; no row is its own neighbour.
        device: Where the products are computed.

    Returns:
        Two arrays ``(N, k)``.
    """
    if not 1 <= k <= len(reference) - itself:
        raise ValueError(f"{k} neighbours among {len(reference)} vectors")
    best = torch.full((len(queries), k), torch.inf, dtype=torch.float64, device=device)
    found = torch.zeros((len(queries), k), dtype=torch.int64, device=device)
    for rows, columns, block in squared_distances(queries, reference, device=device):
        if itself:
            own = torch.arange(len(queries), device=device)[rows, None]
            block = block.masked_fill(
                own == torch.arange(columns.start, columns.stop, device=device), torch.inf
            )
        numbers = torch.arange(columns.start, columns.stop, device=device).expand_as(block)
        candidates = torch.cat([best[rows], block], dim=1)
        best[rows], picks = candidates.topk(k, dim=1, largest=False)
        found[rows] = torch.cat([found[rows], numbers], dim=1).gather(1, picks)
    return best.sqrt().cpu().numpy(), found.cpu().numpy()


def _block(values: Floats, rows: slice, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.asarray(values[rows], dtype=np.float64)).to(device)


def _refuse_non_finite(values: Floats, ids: Sequence[str], what: str) -> None:
    step = max(1, _BLOCK // max(values.shape[1], 1))
    bad: dict[str, None] = {}
    for start in range(0, len(values), step):
        finite = np.isfinite(values[start : start + step]).all(axis=1)
        bad |= {str(ids[start + int(row)]): None for row in np.flatnonzero(~finite)}
    if bad:
        names = list(bad)
        raise UserError(
            f"{what} vectors of {len(names)} case(s) hold NaN or infinity: {listed(names, _SHOWN)}",
            remedy="look at these cases' images; make their features again",
        )
