"""Training timesteps that are not drawn evenly: logit-normal, and moved towards the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from voxella.diffusion.names import TimestepDraw
from voxella.philox import keyed_generator

__all__ = ["draw_timestep"]


def draw_timestep(
    name: TimestepDraw,
    steps: int,
    *,
    location: float,
    scale: float,
    shift: float | None,
    size: Sequence[int],
    seed: int,
    case_id: str,
    step: int,
) -> int:
    """Return the timestep of one visit, 0 to ``steps - 1``.

    A time in (0, 1) from data to noise is drawn, evenly or as ``sigmoid(n)`` of a normal ``n``
    (Esser et al. 2024, arXiv:2403.03206, section 3.1), moved towards the noise for large latents
    (their equation 23, by MONAI's ``timestep_transform``), and then cut into timesteps.

    Args:
        name: How the time is drawn.
        steps: Timesteps of the schedule.
        location: Mean of the normal; above 0 there is more noise.
        scale: Standard deviation of the normal.
        shift: Edge of the latent cube that is not moved at all, in latent voxels; None: none is.
        size: Latent voxels along each axis.
        seed: The recipe's.
        case_id: The case.
        step: The visit.
    """
    generator = keyed_generator(seed, "timesteps", case_id, step)
    if name == "uniform":
        time = float(generator.random())
    else:
        normal = location + scale * float(generator.standard_normal())
        time = 1 / (1 + math.exp(-normal)) if normal > -700 else 0.0  # exp overflows beyond
    if shift is not None:
        # Lazily: MONAI takes seconds to import, and recipes are checked without it.
        from monai.networks.schedulers.rectified_flow import timestep_transform

        # In double precision: MONAI's own is what its argument is.
        moved = timestep_transform(
            torch.tensor(time, dtype=torch.float64),
            input_img_size_numel=math.prod(size),
            base_img_size_numel=shift ** len(size),
            num_train_timesteps=1,
            spatial_dim=len(size),
        )
        time = float(moved)
    return min(int(time * steps), steps - 1)
