"""The pure updates of samplers: a state, an estimate and fresh noise to the next state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from voxella.diffusion.moves import Move
from voxella.diffusion.sampler_facts import Estimate, Update

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ddim", "ddim_eta", "ddpm", "dpmpp_2m", "euler"]


def ddpm(move: Move, x_t: Tensor, estimate: Estimate, noise: Tensor | None) -> Tensor:
    """Draw from the posterior q(x_{t-1} | x_t, x_0) (Ho et al. 2020, equations 6 and 7).

    The variance is theirs of equation 7 ("fixed small"), as in the released code.
    """
    kept = move.alpha / move.alpha_next
    beta = move.sigma**2 - (kept * move.sigma_next) ** 2
    mean = (move.alpha_next * beta / move.sigma**2) * estimate.x0
    mean = mean + (kept * move.sigma_next**2 / move.sigma**2) * x_t
    if noise is None:
        return mean
    return mean + math.sqrt(beta) * move.sigma_next / move.sigma * noise


def ddim(move: Move, x_t: Tensor, estimate: Estimate, noise: Tensor | None) -> Tensor:
    """Move without fresh noise: eta 0 (Song et al. 2021, equation 12 with sigma 0)."""
    return move.alpha_next * estimate.x0 + move.sigma_next * estimate.epsilon


def ddim_eta(eta: float) -> Update:
    """Return DDIM with ``eta`` times the noise of the reverse chain (Song et al. 2021, eq. 16)."""

    def update(move: Move, x_t: Tensor, estimate: Estimate, noise: Tensor | None) -> Tensor:
        kept = move.alpha / move.alpha_next
        fresh = eta * move.sigma_next / move.sigma * math.sqrt(1 - kept**2)
        old = math.sqrt(max(move.sigma_next**2 - fresh**2, 0.0))
        mean = move.alpha_next * estimate.x0 + old * estimate.epsilon
        return mean if noise is None else mean + fresh * noise

    return update


def dpmpp_2m(move: Move, x_t: Tensor, estimate: Estimate, noise: Tensor | None) -> Tensor:
    """Take a step of DPM-Solver++ 2M (Lu et al. 2022, "DPM-Solver++", algorithm 2).

    Their ``alpha_next (exp(-h) - 1)`` is written out with ``exp(-h) = sigma_next alpha / (sigma
    alpha_next)``, which stays finite at both ends.
    """
    x0 = estimate.x0
    if estimate.previous_x0 is not None and move.extrapolation != 0.0:
        x0 = x0 + move.extrapolation * (x0 - estimate.previous_x0)
    ratio = move.sigma_next / move.sigma
    return ratio * x_t + (move.alpha_next - ratio * move.alpha) * x0


def euler(move: Move, x_t: Tensor, estimate: Estimate, noise: Tensor | None) -> Tensor:
    """Follow the velocity ``dx/ds = noise - x_0`` for one step (Liu et al. 2022, equation 1)."""
    return x_t + (move.sigma_next - move.sigma) * (estimate.epsilon - estimate.x0)
