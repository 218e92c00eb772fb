"""An autoencoder with its losses: the module that DeepSpeed trains, and what it says of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from voxella.autoencoder.adaptive import adaptive_weight, last_layer
from voxella.autoencoder.adversary import Adversary
from voxella.autoencoder.equivariance import draw_transform, equivariance_l1
from voxella.autoencoder.losses import autoencoder_losses
from voxella.autoencoder.lpips import PerceptualLoss
from voxella.autoencoder.patches import PatchBatch
from voxella.engine.finite import FiniteCheck
from voxella.engine.log import peak_memory_gib
from voxella.plugins.contracts import Autoencoder, training_losses
from voxella.ranks import Ranks
from voxella.recipe.model import AutoencoderTraining

__all__ = ["AutoencoderMonitor", "AutoencoderTask", "autocast"]

# What the module returns besides named losses.
_NO_LOSSES = ("total", "reconstruction", "l1_per_case")


def autocast(settings: AutoencoderTraining, device: torch.device) -> Callable[[], torch.autocast]:
    """Return what makes the context that networks compute in; losses are computed outside it.

    Not DeepSpeed's autocast, which would reach the losses as well. bfloat16 has the range of
    float32: no loss needs to be scaled.
    """
    enabled = settings.precision == "bf16"
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


class AutoencoderTask(nn.Module):
    """Images to latents, a draw of them, and back; then the losses.

    Args:
        autoencoder: The network.
        settings: The recipe's ``autoencoder_training`` block.
        networks: Makes the context that networks compute in.
        adversary: Judges reconstructions; None: nothing does. It is no part of this module:
            another optimizer trains it.
        perceptual: Compares in features; None: nothing does. No part of this module, either.
        seed: Of the transforms that latents are held to.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        settings: AutoencoderTraining,
        networks: Callable[[], torch.autocast],
        adversary: Adversary | None = None,
        perceptual: PerceptualLoss | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.autoencoder = cast("nn.Module", autoencoder)
        self.settings, self.networks, self.adversary = settings, networks, adversary
        self.perceptual, self.seed = perceptual, seed

    def forward(self, batch: PatchBatch) -> dict[str, Tensor]:
        """Return ``total``, which carries gradients, and detached what is watched.

        ``loss`` is the total of this micro batch, ``reconstruction`` like the images,
        ``l1_per_case`` ``(B,)``; the others are the terms, without their weights.
        """
        model = cast("Autoencoder", self.autoencoder)
        images = batch.images
        judge = self.adversary
        if judge is not None and not judge.active(batch.step):
            judge = None
        adapts = judge is not None and judge.settings.adaptive
        with self.networks(), last_layer(model) if adapts else nullcontext() as gradient_at:
            mean, log_sigma = model.encode(images)
            mean = mean.float()
            log_sigma = None if log_sigma is None else log_sigma.float()
            drawn = mean if log_sigma is None else mean + log_sigma.exp() * batch.noise
            reconstruction = model.decode(drawn).float()
            own = training_losses(model, images, mean, reconstruction)
            seen = None if self.perceptual is None else self.perceptual(reconstruction, images)
            turned = None
            if (asked := self.settings.equivariance) is not None:
                transform = draw_transform(asked, drawn.shape[2:], seed=self.seed, step=batch.step)
                turned = equivariance_l1(model.decode, images, drawn, transform)
        losses = autoencoder_losses(
            self.settings, images, reconstruction, mean, log_sigma, own, seen, turned
        )
        if judge is not None:
            with self.networks():
                losses["adversarial"] = judge.generator_loss(reconstruction)
            weighed = judge.settings.weight * losses["adversarial"]
            if gradient_at is not None:
                losses["adversarial_weight"] = adaptive_weight(
                    losses["loss"], losses["adversarial"], reconstruction, gradient_at
                )
                weighed = losses["adversarial_weight"] * weighed
            losses["loss"] = losses["loss"] + weighed
        return {
            **{name: value.detach() for name, value in losses.items()},
            "total": losses["loss"] * batch.weight,
            "reconstruction": reconstruction.detach(),
            "l1_per_case": (reconstruction - images).detach().abs().flatten(1).mean(1),
        }


class AutoencoderMonitor:
    """Averages the losses of one step, the one that is logged, over all processes.

    Args:
        ranks: This process.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._finite = FiniteCheck(ranks)
        self._sums: dict[str, Tensor] = {}
        self._parts = 0
        self._ended = False
        self._begin()

    def _begin(self) -> None:
        self._cases = torch.zeros((), dtype=torch.float64, device=self.ranks.device)
        self._started = time.monotonic()

    def add(self, batch: PatchBatch, losses: Mapping[str, Tensor]) -> None:
        """Count one micro batch and its losses."""
        if self._ended:
            self._sums, self._parts, self._ended = {}, 0, False
        bad = ~losses["l1_per_case"].isfinite()
        for name, value in losses.items():
            if name not in _NO_LOSSES:
                bad = bad | ~value.isfinite()
                told = value.detach().double() * batch.weight
                self._sums[name] = self._sums[name] + told if name in self._sums else told
        self._parts += 1
        self._cases += len(batch.case_ids) if batch.weight else 0
        self._finite.add(batch.case_ids, bad)

    def check(self, step: int) -> None:
        """End a step; raise NonFiniteLossError where a loss of it is not finite; collective."""
        self._ended = True
        self._finite.check(step)

    def read(self) -> dict[str, float]:
        """Return the last step's losses and the speed since the last call; collective."""
        elapsed = time.monotonic() - self._started
        names = sorted(self._sums)
        totals = torch.stack([self._cases, *(self._sums[name] for name in names)])
        if self.ranks.world > 1:
            torch.distributed.all_reduce(totals)
        cases, *sums = totals.tolist()
        parts = self._parts * self.ranks.world
        means = {name: value / parts for name, value in zip(names, sums, strict=True)}
        self._begin()
        return {
            "loss/total": means.pop("loss"),
            **{f"loss/{name}": value for name, value in means.items()},
            "cases_per_second": cases / max(elapsed, 1e-9),
            "memory_gib": peak_memory_gib(),
        }
