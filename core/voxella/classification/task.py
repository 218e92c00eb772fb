"""A classifier with its loss: the module that DeepSpeed trains.

What a classifier's training says about itself.
"""

from __future__ import annotations

import time
from typing import Any, cast

import torch
from torch import Tensor, nn

from voxella.classification.batches import ImageBatch
from voxella.diffusion.losses import focal_loss
from voxella.engine.log import peak_memory_gib
from voxella.ldm.monitor import Monitor
from voxella.plugins import registry
from voxella.plugins.contracts import Classifier
from voxella.ranks import Ranks
from voxella.recipe.classification import Classify, Focal

__all__ = ["ClassifierMonitor", "ClassifierTask", "build_task"]


class ClassifierTask(nn.Module):
    """Images to logits to focal loss.

    Args:
        classifier: The network.
        loss: Form of the focal loss.
    """

    def __init__(self, classifier: Classifier, loss: Focal) -> None:
        super().__init__()
        self.classifier = cast(nn.Module, classifier)
        self.loss = loss

    def forward(self, batch: ImageBatch) -> dict[str, Tensor]:
        """Return ``total``, which carries gradients, and detached what is watched.

        ``loss_per_case`` is ``(B,)``, ``logits`` ``(B, K)`` float32.
        """
        # The whole network may be cast to less (DeepSpeed's bf16 block).
        kind = next(self.classifier.parameters()).dtype
        logits = self.classifier(batch.images.to(kind)).float()
        terms = focal_loss(logits, batch.target, gamma=self.loss.gamma, alpha=self.loss.alpha)
        # MONAI's default, as in the released classifier: the mean over classes.
        per_case = terms.mean(dim=1)
        return {
            "total": per_case.mean(),
            "loss_per_case": per_case.detach(),
            "logits": logits.detach(),
        }


def build_task(settings: Classify, channels: int, classes: int, seed: int) -> ClassifierTask:
    """Build an untrained classifier, its weights drawn from ``seed``.

    Args:
        settings: Which, and of what size its images are.
        channels: Of its images.
        classes: How many it tells apart.
        seed: Of its weights.
    """
    # Of the CPU only: the model is drawn there.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**63)
        classifier: Classifier = registry.build(
            "classifiers",
            settings.classifier,
            spatial_dims=len(settings.size),
            in_channels=channels,
            num_classes=classes,
        )
    return ClassifierTask(classifier, settings.loss)


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
        self._finite.add(batch.case_ids, ~per_case.isfinite())

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
