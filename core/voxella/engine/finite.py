"""The stop at a loss that is not finite: on all processes or none, with its cases by name."""

from __future__ import annotations

import torch
from torch import Tensor

from voxella.engine.log import NonFiniteLossError
from voxella.ranks import Ranks

__all__ = ["FiniteCheck"]


class FiniteCheck:
    """Remembers which cases' losses are not finite until it is asked.

    Args:
        ranks: This process.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._unchecked: list[tuple[tuple[str, ...], Tensor]] = []

    def add(self, case_ids: tuple[str, ...], bad: Tensor) -> None:
        """Take one micro batch's cases; ``bad`` is ``(B,)`` bool, True where a loss is not finite.

        Nothing is asked of the device yet.
        """
        self._unchecked.append((case_ids, bad))

    def check(self, step: int) -> None:
        """Raise where a loss added since the last check is not finite; collective.

        Called once a step, when all its micro batches are added: asking a GPU makes it wait.

        Raises:
            NonFiniteLossError: Naming these cases, before the gradient reaches a weight.
        """
        unchecked, self._unchecked = self._unchecked, []
        anywhere = torch.stack([bad.any() for _, bad in unchecked]).any().float()
        if self.ranks.world > 1:
            torch.distributed.all_reduce(anywhere, op=torch.distributed.ReduceOp.MAX)
        if not anywhere.item():
            return
        mine = [
            case
            for cases, bad in unchecked
            for case, is_bad in zip(cases, bad.tolist(), strict=True)
            if is_bad
        ]
        everyone: list[list[str] | None] = [mine]
        if self.ranks.world > 1:
            everyone = [None] * self.ranks.world
            torch.distributed.all_gather_object(everyone, mine)
        raise NonFiniteLossError(step, sorted({case for part in everyone for case in part or []}))
