"""What a classifier's training says about itself."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from voxella.engine.monitor import Monitor, peak_memory_gib
from voxella.engine.ranks import Ranks

__all__ = ["ClassifierMonitor"]


class ClassifierMonitor(Monitor):
    """Sums loss and right answers over cases; refuses losses that are not finite, as its parent.

    Args:
        ranks: This process.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(ranks, 1, class_weight=0.0)

    def add(self, batch: Any, losses: dict[str, Tensor]) -> None:  # noqa: ANN401 - an ImageBatch
        """Count one micro batch."""
        per_case = losses["loss_per_case"].double()
        right = losses["logits"].argmax(dim=1) == batch.target.argmax(dim=1)
        self._sums["cases"] += len(batch.case_ids)
        self._sums["loss"] += per_case.sum()
        self._sums["right"] += right.sum()
        self._unchecked.append((batch.case_ids, ~per_case.isfinite()))

    def read(self) -> dict[str, float]:
        """Return the scalars since the last call, over all processes, and begin anew."""
        elapsed = time.monotonic() - self._started
        totals = torch.stack([self._sums[name] for name in ("cases", "loss", "right")])
        if self.ranks.world > 1:
            torch.distributed.all_reduce(totals)
        cases, loss, right = totals.tolist()
        self._reset()
        return {
            "loss/total": loss / cases,
            "train/accuracy": right / cases,
            "cases_per_second": cases / max(elapsed, 1e-9),
            "memory_gib": peak_memory_gib(),
        }
