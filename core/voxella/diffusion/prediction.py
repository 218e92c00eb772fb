"""What the network predicts, and the way from there to x_0 and to the noise.

With ``x_t = alpha x_0 + sigma noise`` any of four targets determines the other three:

* ``epsilon``: ``noise`` (Ho et al. 2020, equation 14); the paper's;
* ``x0``: ``x_0``;
* ``v``: ``alpha noise - sigma x_0`` (Salimans and Ho 2022, section 4);
* ``flow``: ``noise - x_0``, the velocity dx/ds of the straight path (Liu et al. 2022, equation 1,
  with time from data to noise, so the sign is opposite to theirs and to MAISI's).

All formulas hold on both families of schedules. One limit: at a rectified flow's last timestep
alpha is 0, and ``epsilon`` says nothing about ``x_0`` there; recipes admit only ``flow`` with it.
"""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor

from voxella.diffusion.names import Prediction
from voxella.diffusion.schedule import Schedule

__all__ = ["target", "to_epsilon", "to_x0"]


def target(
    prediction: Prediction, x0: Tensor, noise: Tensor, t: Tensor | int, schedule: Schedule
) -> Tensor:
    """Return what the network should output for ``x_t = schedule.add_noise(x0, noise, t)``.

    Args:
        prediction: The recipe's ``diffusion.prediction``.
        x0: ``(B, C, *spatial)``.
        noise: Of the same shape.
        t: ``(B,)``, or one timestep for the whole batch.
        schedule: The path.

    Returns:
        ``(B, C, *spatial)``, at least float32.
    """
    alpha, sigma = schedule.coefficients(t, x0)
    x0, noise = x0.to(alpha.dtype), noise.to(alpha.dtype)
    match prediction:
        case "epsilon":
            return noise
        case "x0":
            return x0
        case "v":
            return alpha * noise - sigma * x0
        case "flow":
            return noise - x0
        case _:
            assert_never(prediction)


def to_x0(
    prediction: Prediction, output: Tensor, x_t: Tensor, t: Tensor | int, schedule: Schedule
) -> Tensor:
    """Return the x_0 that a network's output stands for; arguments as in :func:`target`.

    Each case solves ``x_t = alpha x_0 + sigma noise`` together with the target's definition. The
    result is at least float32 whatever the network computed in. It is not clipped: latents have no
    range to be clipped to.
    """
    alpha, sigma, output, x_t = _promoted(output, x_t, t, schedule)
    match prediction:
        case "epsilon":
            return (x_t - sigma * output) / alpha
        case "x0":
            return output
        case "v":  # the divisor is 1 on variance-preserving paths
            return (alpha * x_t - sigma * output) / (alpha**2 + sigma**2)
        case "flow":  # the divisor is 1 on the straight path
            return (x_t - sigma * output) / (alpha + sigma)
        case _:
            assert_never(prediction)


def to_epsilon(
    prediction: Prediction, output: Tensor, x_t: Tensor, t: Tensor | int, schedule: Schedule
) -> Tensor:
    """Return the noise that a network's output stands for; as :func:`to_x0`."""
    alpha, sigma, output, x_t = _promoted(output, x_t, t, schedule)
    match prediction:
        case "epsilon":
            return output
        case "x0":
            return (x_t - alpha * output) / sigma
        case "v":
            return (sigma * x_t + alpha * output) / (alpha**2 + sigma**2)
        case "flow":
            return (x_t + alpha * output) / (alpha + sigma)
        case _:
            assert_never(prediction)


def _promoted(
    output: Tensor, x_t: Tensor, t: Tensor | int, schedule: Schedule
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return alpha, sigma, output and x_t in one dtype, at least float32."""
    dtype = torch.promote_types(torch.promote_types(output.dtype, x_t.dtype), torch.float32)
    output, x_t = output.to(dtype), x_t.to(dtype)
    return *schedule.coefficients(t, x_t), output, x_t
