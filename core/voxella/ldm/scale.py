"""The factor on latents: one number, or one for each channel of the latent.

The paper has one. Stacked sequences differ: latents of a map of diffusion vary less than those of
an anatomical image, and under one factor the loss would mostly be of the latter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from voxella.autoencoder.statistics import LatentStatistics
from voxella.recipe.inputs import Latent

__all__ = ["Scale", "exact_scale", "over_channels", "scale_of_draws"]

Scale = float | tuple[float, ...]


def exact_scale(latent: Latent, passes: int, found: LatentStatistics) -> Scale:
    """Return 1 / std over the training set, as ``latent.scale_per`` asks.

    Args:
        latent: The recipe's block; of means where it draws none, else of draws.
        passes: How many sequences are stacked.
        found: Of the training set.

    Raises:
        UserError: A group of channels does not vary.
    """
    of_means = latent.draw == "mean"
    if latent.scale_per == "set":
        return found.scale_of_means if of_means else found.scale
    groups = _groups(latent, passes)
    factors = [found.scale_of(group, of_means=of_means) for group in groups]
    return _by_channel(groups, factors)


def scale_of_draws(latent: Latent, passes: int, draws: Tensor) -> Scale:
    """Return 1 / std (of n - 1) of latents ``(B, C, *spatial)``, as ``latent.scale_per`` asks."""
    values = draws.double()
    if latent.scale_per == "set":
        return float(1.0 / values.std())
    groups = _groups(latent, passes)
    factors = [float(1.0 / values[:, group.start : group.stop].std()) for group in groups]
    return _by_channel(groups, factors)


def over_channels(scale: Scale, axes: int) -> float | Tensor:
    """Return what latents with ``axes`` spatial axes are multiplied by: channels, then axes."""
    if not isinstance(scale, tuple):
        return scale
    return torch.tensor(scale).reshape(-1, *[1] * axes)


def _groups(latent: Latent, passes: int) -> list[range]:
    """Return the channels that share a factor."""
    width = 1 if latent.scale_per == "channel" else latent.channels // passes
    return [range(first, first + width) for first in range(0, latent.channels, width)]


def _by_channel(groups: Sequence[range], factors: Sequence[float]) -> Scale:
    return tuple(f for group, f in zip(groups, factors, strict=True) for _ in group)
