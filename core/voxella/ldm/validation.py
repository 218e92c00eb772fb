"""The loss on held-out cases, at noise and timesteps that never change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from voxella.engine.order import SampleKey
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ranks import Ranks

__all__ = ["Validation"]

# Each case is looked at this often, at other timesteps; one look would be mostly chance.
_EPOCHS = 4


@dataclass(frozen=True)
class Validation:
    """Measures the mean reconstruction loss over the validation split.

    Attributes:
        builder: Makes batches of validation cases.
        ranks: This process.
        batch_size: Cases per forward pass.
    """

    builder: LatentBatchBuilder
    ranks: Ranks
    batch_size: int

    @torch.no_grad()
    def measure(self, engine: Any, step: int) -> dict[str, float]:  # noqa: ANN401 - DeepSpeed ships no types
        """Return the loss by name; collective, the same on every process.

        Every process makes the same number of forward passes, for under ZeRO 3 each is a meeting;
        one that has run out of cases repeats its last and does not count it.
        """
        keys = [
            SampleKey(case, epoch)
            for epoch in range(_EPOCHS)
            for case in sorted(self.builder.cases)
        ]
        parts = [
            keys[start : start + self.batch_size] for start in range(0, len(keys), self.batch_size)
        ]
        mine = [parts[index] for index in self.ranks.share(len(parts))]
        rounds = -(-len(parts) // self.ranks.world)
        sums = torch.zeros(2, dtype=torch.float64, device=self.ranks.device)
        engine.eval()
        for index in range(rounds):
            part = mine[index] if index < len(mine) else parts[-1]
            losses = engine(self.builder.make(part).to(self.ranks.device))
            if index < len(mine):
                sums[0] += losses["reconstruction_per_case"].double().sum()
                sums[1] += len(part)
        engine.train()
        if self.ranks.world > 1:
            torch.distributed.all_reduce(sums)
        return {"validation/reconstruction": float(sums[0] / sums[1])}
