"""The loss on held-out cases, at noise and timesteps that never change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from voxella.case import Manifest
from voxella.engine.order import SampleKey
from voxella.engine.settings import deepspeed_config
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.conditions import refuse_values
from voxella.ranks import Ranks
from voxella.recipe.model import Dropout
from voxella.workspace.folders import Folders

__all__ = ["Validation", "held_out_validation"]

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


def held_out_validation(
    block: dict[str, Any], folders: Folders, builder: LatentBatchBuilder, ranks: Ranks
) -> Validation | None:
    """Return the validation loss of the split val, or None when it is empty."""
    held_out = {case.id: case for case in Manifest.read(folders.prepared).split("val")}
    if not held_out:
        return None
    refuse_values(builder.settings.conditions, held_out.values())
    builder.latents.require(held_out)
    if builder.text is not None:
        builder.text.require(held_out)
    config = deepspeed_config(block, world=ranks.world, device=None)
    size = int(config["train_micro_batch_size_per_gpu"])
    # Held-out cases keep their conditions and their first text: what is measured must not be a
    # matter of chance. Timesteps are even, so that trainings that draw them otherwise compare.
    kept = replace(builder.settings, dropout=Dropout(), draws=None)
    held = replace(builder, settings=kept, cases=held_out, draws_text=False)
    return Validation(held, ranks, size)
