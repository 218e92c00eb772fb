"""Channels of a latent that are given while the others are generated to go with them.

RePaint (Lugmayr et al. 2022, algorithm 1): before each network call what is given stands in its
place, noised to that timestep. Deviation: no resampling (their U is 1), so one call a step, and
what is generated is harmonised by the remaining steps alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxella.ldm.build import LatentDiffusion
from voxella.ldm.scale import over_channels

__all__ = ["Held", "holding", "own_scale"]


@dataclass(frozen=True)
class Held:
    """Channels of a latent that are given, not generated.

    Attributes:
        latents: ``(C, *spatial)``, in the autoencoder's own scale; of other channels anything.
        channels: ``(C,)`` bool, True where given.
    """

    latents: Tensor
    channels: Tensor


def own_scale(model: LatentDiffusion, latents: Tensor) -> float | Tensor:
    """Return a model's factor on latents ``(B, C, *spatial)``, where these are."""
    scale = over_channels(model.latent_scale, latents.ndim - 2)
    return scale.to(latents.device) if isinstance(scale, Tensor) else scale


def holding(
    model: LatentDiffusion,
    held: Sequence[Held | None],
    noise: Callable[[int, str], Tensor],
    device: torch.device,
    *,
    fresh: bool,
) -> Callable[[Tensor, int | None, int], Tensor] | None:
    """Return what puts given channels in their place; None where nothing is given.

    Args:
        model: Says scale and schedule.
        held: What is given of each volume of the batch.
        noise: ``(step, purpose) -> (B, C, *spatial)``.
        device: Where it computes.
        fresh: Noise them anew at each step, as a stochastic sampler does the others; else all
            along with the noise that the volume began from, so that the held path is smooth.
    """
    known = [one for one in held if one is not None]
    if not known:
        return None
    nothing = torch.zeros_like(known[0].latents)
    given = torch.stack([nothing if one is None else one.latents for one in held]).to(device)
    given = given * own_scale(model, given)
    nowhere = torch.zeros(len(nothing), dtype=torch.bool)
    mask = torch.stack([nowhere if one is None else one.channels for one in held]).to(device)
    mask = mask.reshape(*mask.shape, *[1] * (given.ndim - 2))

    def hold(x: Tensor, t: int | None, index: int) -> Tensor:
        if t is None:
            return torch.where(mask, given.to(x), x)
        drawn = noise(index, "given") if fresh else noise(0, "initial")
        timesteps = torch.full((len(held),), t, device=device)
        return torch.where(mask, model.schedule.add_noise(given, drawn, timesteps).to(x), x)

    return hold
