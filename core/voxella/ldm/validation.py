"""The loss on held-out cases, at noise and timesteps that never change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from voxella.case import Manifest
from voxella.engine.order import SampleKey
from voxella.engine.settings import deepspeed_config
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.conditions import refuse_values
from voxella.ldm.learning import (
    VALIDATED,
    VALIDATED_OVER_ZERO,
    VALIDATED_ZERO,
    NoiseBand,
    band_sums,
    bands_of,
)
from voxella.ranks import Ranks
from voxella.recipe.model import Dropout
from voxella.workspace.folders import Folders

__all__ = ["Validation", "held_out_validation"]

# Each case is looked at this often, at other timesteps; one look would be mostly chance.
_EPOCHS = 4


@dataclass(frozen=True)
class Validation:
    """Measures the reconstruction loss over the validation split: its mean, and by noise level.

    One mean over all timesteps misleads: where there is most noise every network is near the zero
    predictor, and small structures are learnt where there is less.

    Attributes:
        builder: Makes batches of validation cases.
        ranks: This process.
        batch_size: Cases per forward pass.
        schedule_steps: Timesteps of the schedule.
    """

    builder: LatentBatchBuilder
    ranks: Ranks
    batch_size: int
    schedule_steps: int

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
        sums: dict[str, Tensor] = defaultdict(
            lambda: torch.zeros((), dtype=torch.float64, device=self.ranks.device)
        )
        engine.eval()
        for index in range(rounds):
            part = mine[index] if index < len(mine) else parts[-1]
            batch = self.builder.make(part).to(self.ranks.device)
            losses = engine(batch)
            loss = losses["reconstruction_per_case"].double()
            zero = losses["zero_per_case"].double()
            counted = 1.0 if index < len(mine) else 0.0
            for name, value in band_sums(batch.timesteps, self.schedule_steps, loss, zero):
                sums[name] += counted * value
        engine.train()
        totals = torch.stack(list(sums.values()))
        if self.ranks.world > 1:
            torch.distributed.all_reduce(totals)
        return _scalars(bands_of(dict(zip(sums, totals.tolist(), strict=True))))


def _scalars(bands: Sequence[NoiseBand]) -> dict[str, float]:
    whole = sum(bands, NoiseBand())
    scalars = {"validation/reconstruction": whole.loss / whole.cases}
    for number, band in enumerate(bands, start=1):
        if band.cases:
            scalars[VALIDATED.format(number=number)] = band.loss / band.cases
            scalars[VALIDATED_ZERO.format(number=number)] = band.zero / band.cases
            scalars[VALIDATED_OVER_ZERO.format(number=number)] = band.ratio
    return scalars


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
    return Validation(held, ranks, size, builder.settings.timesteps)
