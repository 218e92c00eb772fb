"""What a training run says about itself: named scalars, and a stop when the loss is not finite."""

from __future__ import annotations

import time
from collections import defaultdict

import torch
from torch import Tensor

from voxella.engine.finite import FiniteCheck
from voxella.engine.log import peak_memory_gib
from voxella.ldm.build import Batch
from voxella.ldm.learning import (
    BEATS_ZERO,
    OVER_ZERO,
    LearningWatch,
    NoiseBand,
    band_sums,
    bands_of,
)
from voxella.ranks import Ranks
from voxella.terminal import complain

__all__ = ["Monitor"]


class Monitor:
    """Sums of per-case losses since the last log, over all processes when read.

    Sums and counts, not means of means: the scalars do not depend on how a step was cut into micro
    batches or on the number of processes.

    Args:
        ranks: This process.
        schedule_steps: Timesteps of the schedule, for the quartiles.
        class_weight: Of the class loss in the total.
    """

    def __init__(self, ranks: Ranks, schedule_steps: int, *, class_weight: float) -> None:
        self.ranks = ranks
        self.schedule_steps = schedule_steps
        self.class_weight = class_weight
        self._finite = FiniteCheck(ranks)
        self._learning = LearningWatch()
        self._step = 0
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = defaultdict(
            lambda: torch.zeros((), dtype=torch.float64, device=self._device)
        )
        self._started = time.monotonic()

    @property
    def _device(self) -> torch.device:
        # MPS and CPU alike have float64 on the CPU; a GPU sums on the GPU and is not made to wait.
        return self.ranks.device

    def check(self, step: int) -> None:
        """Raise where a loss added since the last check is not finite; on all processes or none.

        Raises:
            NonFiniteLossError: Naming these cases, before the gradient reaches a weight.
        """
        self._step = step
        self._finite.check(step)

    def add(self, batch: Batch, losses: dict[str, Tensor]) -> None:
        """Count one micro batch."""
        per_case = losses["reconstruction_per_case"].double()
        bad = ~per_case.isfinite()
        self._sums["cases"] += len(batch.case_ids)
        self._sums["reconstruction"] += per_case.sum()
        zero = losses["zero_per_case"].double() if "zero_per_case" in losses else None
        for name, value in band_sums(batch.timesteps, self.schedule_steps, per_case, zero):
            self._sums[name] += value
        if "weighted_per_case" in losses:
            self._sums["weighted"] += losses["weighted_per_case"].double().sum()
        if "class_per_case" in losses:
            counted = batch.has_report & (batch.label.sum(dim=1) > 0)
            right = losses["class_logits"].argmax(dim=1) == batch.label.argmax(dim=1)
            class_loss = losses["class_per_case"].double()
            bad = bad | (~class_loss.isfinite() & batch.has_report)
            self._sums["class"] += class_loss.where(counted, 0.0).sum()
            self._sums["class_right"] += (right & counted).sum()
            self._sums["class_cases"] += counted.sum()
        self._finite.add(batch.case_ids, bad)

    def read(self) -> dict[str, float]:
        """Return the scalars since the last call, over all processes, and begin anew."""
        elapsed = time.monotonic() - self._started
        names = sorted(self._sums)
        totals = torch.stack([self._sums[name] for name in names])
        if self.ranks.world > 1:
            torch.distributed.all_reduce(totals)
        sums = dict(zip(names, totals.tolist(), strict=True))
        self._reset()
        scalars = {"loss/reconstruction": sums["reconstruction"] / sums["cases"]}
        scalars["loss/total"] = sums.get("weighted", sums["reconstruction"]) / sums["cases"]
        bands = bands_of(sums)
        for number, band in enumerate(bands, start=1):
            if band.cases:
                scalars[f"loss/timestep_quartile_{number}"] = band.loss / band.cases
            if band.zero:
                scalars[OVER_ZERO.format(number=number)] = band.ratio
        scalars |= self._learned(bands)
        if count := sums.get("class_cases"):
            scalars["loss/class"] = sums["class"] / count
            scalars["loss/total"] += self.class_weight * scalars["loss/class"]
            scalars["class_head/accuracy"] = sums["class_right"] / count
        scalars["cases_per_second"] = sums["cases"] / max(elapsed, 1e-9)
        scalars["memory_gib"] = peak_memory_gib()
        return scalars

    def _learned(self, bands: list[NoiseBand]) -> dict[str, float]:
        """Return whether the model beats one that predicts 0, once it is known; warn where not."""
        warning = self._learning.add(self._step, bands)
        if warning is not None and self.ranks.is_main:
            complain(warning)
        beats = self._learning.beats_zero
        return {} if beats is None else {BEATS_ZERO: float(beats)}
