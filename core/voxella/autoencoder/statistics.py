"""What the latents of a training set look like: exact, in one pass, whatever their order.

What the latents of held-out cases look like, and which channels hold nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from voxella.autoencoder.measure import CaseMeasure
from voxella.errors import UserError

__all__ = ["LatentReport", "LatentStatistics", "latent_statistics", "report_latents"]

# A channel with a smaller share of signal counts as dead. Burda et al. 2016 (arXiv:1509.00519,
# section 5.2) call a unit active if the variance of its mean exceeds 0.01, under a unit prior; a
# share of the channel's own variance, because a small KL weight leaves the scale free.
_LEAST_SIGNAL = 0.01


@dataclass(frozen=True)
class LatentStatistics:
    """Moments of ``z = mu + sigma * eps`` over every voxel of every training case.

    Attributes:
        cases: How many cases went in.
        mean: Over all channels.
        std: Over all channels; the population's (divided by n).
        noise_share: ``E[sigma^2] / Var[z]``: how much of the variance the encoder's own noise is.
            One draw per case, kept for good, would bake this share into every target.
        rounding_share: The same of what storing the mean in few bits added: ``E[(stored - mu)^2] /
            Var[z]``. To be seen beside the noise share, which is there anyway.
        channel_mean: The same by channel.
        channel_std: The same by channel.
        channel_noise_share: The same by channel.
    """

    cases: int
    mean: float
    std: float
    noise_share: float
    rounding_share: float
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]
    channel_noise_share: tuple[float, ...]

    @property
    def scale(self) -> float:
        """Return the factor that brings draws of latents to unit standard deviation: 1 / std."""
        return 1.0 / self.std

    @property
    def scale_of_means(self) -> float:
        """Return the same for means alone, without the encoder's noise.

        Raises:
            UserError: The means do not vary.
        """
        variance = self.std**2 * (1.0 - self.noise_share)
        if not variance > 0:
            raise UserError(
                "the latents' means do not vary over the training set: their noise is all there is",
                remedy="the autoencoder has collapsed: lower its kl_weight or train it longer",
            )
        return 1.0 / math.sqrt(variance)

    def scale_of(self, channels: Sequence[int], *, of_means: bool) -> float:
        """Return the factor that brings some channels together to unit standard deviation.

        Args:
            channels: Which.
            of_means: Without the encoder's noise.

        Raises:
            UserError: They do not vary.
        """
        means = [self.channel_mean[c] for c in channels]
        kept = [1.0 - self.channel_noise_share[c] if of_means else 1.0 for c in channels]
        spreads = [self.channel_std[c] ** 2 * k for c, k in zip(channels, kept, strict=True)]
        first = math.fsum(means) / len(means)
        # Between the channels' means and within each; no difference of large numbers.
        between = math.fsum((mean - first) ** 2 for mean in means)
        variance = (between + math.fsum(spreads)) / len(means)
        if not variance > 0:
            raise UserError(
                f"the latents' channels {', '.join(map(str, channels))} do not vary over the "
                "training set",
                remedy="--set latent.scale_per=set, or an autoencoder without dead channels",
            )
        return 1.0 / math.sqrt(variance)

    def as_json(self) -> dict[str, Any]:
        """Return the numbers as JSON-ready data, the scale among them."""
        return asdict(self) | {"scale": self.scale}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LatentStatistics:
        """Read what :meth:`as_json` wrote."""
        kept = {name: value for name, value in data.items() if name != "scale"}
        for name in ("channel_mean", "channel_std", "channel_noise_share"):
            kept[name] = tuple(kept[name])
        return cls(**kept)


def latent_statistics(
    cases: Iterable[tuple[Tensor, Tensor | None]], rounding: Sequence[float] = ()
) -> LatentStatistics:
    """Return the exact statistics of cases given as (mean, log sigma), each ``(C, *spatial)``.

    ``Var[z] = E[mu^2 + sigma^2] - E[mu]^2``, for ``eps`` is independent of the image. Sums within
    a case are float64; sums over cases are correctly rounded (``math.fsum``), so the order of the
    cases changes nothing at all.

    Args:
        cases: As they are stored; log sigma is None where there is none: sigma is then 0.
        rounding: By case, the sum of ``(stored - mu)^2``; empty where nothing was rounded.

    Raises:
        UserError: There is no case, or the latents do not vary.
    """
    sums = [_case_sums(mean, log_sigma) for mean, log_sigma in cases]
    if not sums:
        raise UserError(
            "latent statistics need training cases, and the manifest has none",
            remedy="give cases the split `train` in the manifest",
        )
    channels = range(len(sums[0][1]))
    voxels = math.fsum(count for count, _ in sums)
    # moments[c] = E[mu], E[mu^2], E[sigma^2] of channel c
    moments = [
        tuple(math.fsum(rows[c][k] for _, rows in sums) / voxels for k in range(3))
        for c in channels
    ]
    overall = tuple(math.fsum(m[k] for m in moments) / len(moments) for k in range(3))
    mean, std, share = _describe(overall)
    if not std > 0:
        raise UserError(
            "the latents do not vary over the training set: their standard deviation is 0",
            remedy="the autoencoder has collapsed: lower its kl_weight or train it longer",
        )
    by_channel = [_describe(m) for m in moments]
    return LatentStatistics(
        cases=len(sums),
        mean=mean,
        std=std,
        noise_share=share,
        rounding_share=math.fsum(rounding) / (voxels * len(moments)) / std**2,
        channel_mean=tuple(row[0] for row in by_channel),
        channel_std=tuple(row[1] for row in by_channel),
        channel_noise_share=tuple(row[2] for row in by_channel),
    )


def _case_sums(mean: Tensor, log_sigma: Tensor | None) -> tuple[int, list[list[float]]]:
    """Return voxels per channel, and per channel the sums of mu, mu^2 and sigma^2."""
    mu = mean.to(torch.float64).flatten(1)  # (C, voxels)
    if log_sigma is None:
        variance = torch.zeros_like(mu)
    else:
        variance = torch.exp(2 * log_sigma.to(torch.float64)).flatten(1)
    rows = torch.stack([mu.sum(1), mu.square().sum(1), variance.sum(1)], dim=1)
    return mu.shape[1], rows.tolist()


def _describe(moments: tuple[float, ...]) -> tuple[float, float, float]:
    """Return mean, standard deviation and noise share from E[mu], E[mu^2], E[sigma^2]."""
    first, second, noise = moments
    # Rounding can leave a constant channel a hair below zero.
    variance = max(second + noise - first * first, 0.0)
    return first, math.sqrt(variance), noise / variance if variance > 0 else 0.0


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
