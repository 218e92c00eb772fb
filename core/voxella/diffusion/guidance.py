"""Classifier-free guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from voxella.diffusion.schedule import Schedule

__all__ = ["combine", "is_within"]


def combine(conditional: Tensor, null: Tensor, scale: float) -> Tensor:
    """Return ``null + scale (conditional - null)`` (Ho and Salimans 2022, equation 6).

    The paper's weight ``w`` is ``scale - 1``: here 1 means no guidance, and returns ``conditional``
    itself so that switching guidance off changes no bit. The formula is linear and all predictions
    are linear in one another at a given x_t, so it means the same for epsilon, v, x0 and flow.

    Args:
        conditional: ``(B, C, *spatial)``, the network's output under the full conditioning.
        null: The same under the null conditioning.
        scale: 0 is unconditional, 1 conditional, above 1 exaggerates the condition.
    """
    if scale == 1.0:
        return conditional
    return null + scale * (conditional - null)


def is_within(schedule: Schedule, t: int, interval: tuple[float, float] | None) -> bool:
    """Return whether a timestep is guided (Kynkaanniemi et al. 2024, arXiv:2404.07724, eq. 4).

    Args:
        schedule: The path.
        t: The timestep.
        interval: Noise over signal, ``sigma / alpha``, above the first and up to the second; their
            sigma of latents of standard deviation 1. None: every timestep is. Pure noise lies above
            every interval.
    """
    if interval is None:
        return True
    alpha, sigma = float(schedule.alphas[t]), float(schedule.sigmas[t])
    return interval[0] * alpha < sigma <= interval[1] * alpha
