"""What the latents of a training set look like: exact, in one pass, whatever their order."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from voxella.errors import UserError
from voxella.wording import listed

__all__ = ["LatentStatistics", "latent_statistics"]


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
    cases: Iterable[tuple[Tensor, Tensor | None]],
    rounding: Sequence[float] = (),
    absent: Sequence[Collection[int]] = (),
) -> LatentStatistics:
    """Return the exact statistics of cases given as (mean, log sigma), each ``(C, *spatial)``.

    ``Var[z] = E[mu^2 + sigma^2] - E[mu]^2``, for ``eps`` is independent of the image. Sums within
    a case are float64; sums over cases are correctly rounded (``math.fsum``), so the order of the
    cases changes nothing at all.

    Args:
        cases: As they are stored; log sigma is None where there is none: sigma is then 0.
        rounding: By case, the sum of ``(stored - mu)^2``; empty where nothing was rounded.
        absent: By case, channels that do not count: it lacks their sequence; empty: all count.

    Raises:
        UserError: There is no case, none has some channel, or the latents do not vary.
    """
    sums = [_case_sums(mean, log_sigma) for mean, log_sigma in cases]
    if not sums:
        raise UserError(
            "latent statistics need training cases, and the manifest has none",
            remedy="give cases the split `train` in the manifest",
        )
    channels = range(len(sums[0][1]))
    lacking = absent or [()] * len(sums)
    having = [[s for s, gone in zip(sums, lacking, strict=True) if c not in gone] for c in channels]
    voxels = [math.fsum(count for count, _ in own) for own in having]
    if nowhere := [c for c in channels if not having[c]]:
        raise UserError(
            "no training case has the sequence of the latents' channels "
            f"{listed(map(str, nowhere))}",
            remedy="leave the sequence out of data.sequences, or give training cases that have it",
        )
    # moments[c] = E[mu], E[mu^2], E[sigma^2] of channel c
    moments = [
        tuple(math.fsum(rows[c][k] for _, rows in having[c]) / voxels[c] for k in range(3))
        for c in channels
    ]
    # By how often each channel is there: 1 where all are everywhere.
    weights = [n / max(voxels) for n in voxels]
    overall = tuple(
        math.fsum(w * m[k] for w, m in zip(weights, moments, strict=True)) / math.fsum(weights)
        for k in range(3)
    )
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
        rounding_share=math.fsum(rounding) / math.fsum(voxels) / std**2,
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
