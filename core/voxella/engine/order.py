"""Which cases a step sees: a function of (seed, step), whatever the number of processes.

The training set is an endless stream: a fresh shuffle of all cases per epoch, one after the other.
Step ``s`` takes positions ``s * batch`` to ``(s + 1) * batch``, so no case is ever left out, and a
batch may be larger than the data set. Process ``r`` takes a contiguous part of each micro batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["DataOrder", "SampleKey"]


@dataclass(frozen=True)
class SampleKey:
    """One case in one epoch; the pair seeds its noise, timestep and dropout.

    Attributes:
        case_id: The case.
        epoch: How often the stream has been through the data set, from 0.
    """

    case_id: str
    epoch: int


class DataOrder:
    """The order of training.

    Args:
        case_ids: The training cases, in any order.
        seed: The recipe's seed.
        batch_size: Cases per optimizer step, over all processes.
    """

    def __init__(self, case_ids: Sequence[str], *, seed: int, batch_size: int) -> None:
        self.case_ids = sorted(case_ids)
        self.seed = seed
        self.batch_size = batch_size
        self._shuffled = lru_cache(maxsize=2)(self._shuffle)

    def steps(self, epochs: int) -> int:
        """Return how many optimizer steps ``epochs`` take, the last one completed."""
        return math.ceil(epochs * len(self.case_ids) / self.batch_size)

    def step(self, index: int) -> Sequence[SampleKey]:
        """Return the sample keys of optimizer step ``index`` (from 0), over all processes."""
        count = len(self.case_ids)
        first = index * self.batch_size
        return [
            SampleKey(self._shuffled(position // count)[position % count], position // count)
            for position in range(first, first + self.batch_size)
        ]

    def micro_batches(
        self, index: int, *, rank: int, world: int, accumulation: int
    ) -> Sequence[Sequence[SampleKey]]:
        """Return this process's micro batches of a step, one per accumulation step."""
        keys = self.step(index)
        size = self.batch_size // (world * accumulation)
        starts = [(micro * world + rank) * size for micro in range(accumulation)]
        return [keys[start : start + size] for start in starts]

    def _shuffle(self, epoch: int) -> list[str]:
        # Sorting by a keyed hash is a shuffle that needs no generator state and no common order.
        def key(case_id: str) -> bytes:
            return hashlib.blake2b(f"{self.seed}/{epoch}/{case_id}".encode()).digest()

        return sorted(self.case_ids, key=key)
