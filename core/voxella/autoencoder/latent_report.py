"""What the latents of held-out cases look like, and which channels hold nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from voxella.autoencoder.measure import CaseMeasure
from voxella.autoencoder.statistics import LatentStatistics, latent_statistics

__all__ = ["LatentReport", "report_latents"]

# A channel with a smaller share of signal counts as dead. Burda et al. 2016 (arXiv:1509.00519,
# section 5.2) call a unit active if the variance of its mean exceeds 0.01, under a unit prior; a
# share of the channel's own variance, because a small KL weight leaves the scale free.
_LEAST_SIGNAL = 0.01


@dataclass(frozen=True)
class LatentReport:
    """Latents of several cases.

    Attributes:
        statistics: Mean, standard deviation and noise share, overall and by channel.
        channel_kl: KL to a standard normal by channel, in nats per latent voxel; None where the
            latents are no distributions.
    """

    statistics: LatentStatistics
    channel_kl: tuple[float, ...] | None

    @property
    def kl(self) -> float | None:
        """Return the KL of all channels, in nats per latent voxel, as training weighs it."""
        return None if self.channel_kl is None else math.fsum(self.channel_kl)

    @property
    def dead(self) -> tuple[int, ...]:
        """Return the channels of which less than a hundredth of the variance is signal."""
        found = self.statistics
        channels = zip(found.channel_std, found.channel_noise_share, strict=True)
        return tuple(
            index
            for index, (std, noise) in enumerate(channels)
            if std == 0 or 1 - noise < _LEAST_SIGNAL
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON-ready data."""
        found = {
            **self.statistics.as_json(),
            "kl": self.kl,
            "channel_kl": self.channel_kl,
            "dead_channels": self.dead,
        }
        # Lists, as they are read back.
        return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}


def report_latents(measures: Sequence[CaseMeasure]) -> LatentReport:
    """Return the report of the cases' latents.

    Raises:
        UserError: The latents do not vary.
    """
    statistics = latent_statistics((m.mean, m.log_sigma) for m in measures)
    sums = [_kl(m.mean, m.log_sigma) for m in measures if m.log_sigma is not None]
    if not sums:
        return LatentReport(statistics, None)
    voxels = math.fsum(m.mean[0].numel() for m in measures)
    by_channel = torch.stack(sums).sum(dim=0) / voxels
    return LatentReport(statistics, tuple(by_channel.tolist()))


def _kl(mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Return the sum over voxels of each channel's KL, ``(C,)`` float64."""
    mu, log = mean.double().flatten(1), log_sigma.double().flatten(1)
    return 0.5 * (mu.square() + torch.exp(2 * log) - 1 - 2 * log).sum(dim=1)
