"""The moves of sampling: which timesteps are visited, and signal and noise before and after each.

Coefficients are Python floats computed in float64 before the first network call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxella.diffusion.schedule import Schedule

__all__ = [
    "Move",
    "even_timesteps",
    "leading_timesteps",
    "plan_moves",
    "quadratic_timesteps",
    "shifted_timesteps",
]


@dataclass(frozen=True)
class Move:
    """One step of sampling, from timestep ``t`` to a less noisy state.

    Attributes:
        t: The timestep the network is told.
        alpha: Signal factor here.
        sigma: Noise standard deviation here.
        alpha_next: Signal factor after the move; 1 after the last, if it ends at clean data.
        sigma_next: Noise standard deviation after the move; likewise 0.
        extrapolation: How far DPM-Solver++ continues the change of x_0 since the move before.
    """

    t: int
    alpha: float
    sigma: float
    alpha_next: float
    sigma_next: float
    extrapolation: float


def quadratic_timesteps(schedule_steps: int, steps: int) -> list[int]:
    """Return timesteps from the last to 0 whose distances grow with the noise.

    ``t_k = c k^2`` (Song et al. 2021, appendix D.2, "quadratic"), pushed apart where rounding would
    make two equal. Chosen by measurement on Gaussian data of standard deviations 0.1 to 1.5, where
    the exact solution is known, on the paper's schedule with 20 steps of DPM-Solver++: at 0.5 the
    result is 1 % too wide, against 15 % for evenly spaced timesteps that end at 0, and 14 % too
    narrow for even ones that stop at ``schedule_steps / steps`` and jump from there to clean data
    ("trailing"). Spacing evenly in the log of the SNR is as good there but repeats timesteps on the
    cosine schedule. Ending at 0 matters for detail: the jump to clean data returns a mean.
    """
    if steps == 1:
        return [schedule_steps - 1]
    scale = (schedule_steps - 1) / (steps - 1) ** 2
    return [max(math.floor(scale * k * k + 0.5), k) for k in reversed(range(steps))]


def even_timesteps(schedule_steps: int, steps: int) -> list[int]:
    """Return evenly spaced timesteps from the last down ("trailing", Lin et al. 2024, table 2).

    For a rectified flow these are s = 1, 1 - 1/steps, ..., 1/steps, rounded to timesteps, the equal
    Euler steps of Liu et al. 2022 and of MAISI: on a straight path any spacing is exact.
    """
    return [math.floor(schedule_steps * k / steps + 0.5) - 1 for k in range(steps, 0, -1)]


def leading_timesteps(schedule_steps: int, steps: int) -> list[int]:
    """Return 1, 1 + c, 1 + 2 c, ... with c = schedule_steps // steps, from the last down.

    "leading" (Lin et al. 2024, table 2) with latent diffusion's offset of one: 981, 961, ..., 1 for
    50 of 1000. It starts below the noisiest timestep, though from pure noise.
    """
    stride = schedule_steps // steps
    return [stride * k + 1 for k in reversed(range(steps))]


def shifted_timesteps(times: Sequence[float], schedule_steps: int, ratio: float) -> list[int]:
    """Return timesteps moved towards the noise, as larger latents need it.

    A time s becomes ``ratio s / (1 + (ratio - 1) s)`` (Esser et al. 2024, equation 23) and is then
    rounded to a timestep of its own. MAISI's flow has for ratio the edge of the latent's cube over
    32.

    Args:
        times: ``(t + 1) / schedule_steps`` before they are rounded, in (0, 1], noisiest first.
        schedule_steps: Timesteps of the schedule.
        ratio: Above 1 more of them lie where there is more noise; 1 changes nothing.
    """
    moved: list[int] = []
    for place, s in enumerate(times):
        wanted = math.floor(schedule_steps * ratio * s / (1 + (ratio - 1) * s) + 0.5) - 1
        # Each its own, with room below for those that follow.
        most = moved[-1] - 1 if moved else schedule_steps - 1
        moved.append(min(max(wanted, len(times) - 1 - place), most))
    return moved


def plan_moves(
    schedule: Schedule, timesteps: Sequence[int], *, end: int | None = None
) -> tuple[Move, ...]:
    """Return the moves through ``timesteps``, noisiest first, and from the last to the end.

    Args:
        schedule: The path.
        timesteps: Where the network is called.
        end: The timestep whose signal and noise the last move leads to; None: clean data.
    """
    timesteps = list(timesteps)
    last = (1.0, 0.0) if end is None else (float(schedule.alphas[end]), float(schedule.sigmas[end]))
    alphas = [*schedule.alphas[timesteps].tolist(), last[0]]
    sigmas = [*schedule.sigmas[timesteps].tolist(), last[1]]
    log_snr = [_log_snr(alpha, sigma) for alpha, sigma in zip(alphas, sigmas, strict=True)]
    gains = [after - before for before, after in pairwise(log_snr)]
    return tuple(
        Move(
            t=t,
            alpha=alphas[i],
            sigma=sigmas[i],
            alpha_next=alphas[i + 1],
            sigma_next=sigmas[i + 1],
            extrapolation=_extrapolation(gains, i),
        )
        for i, t in enumerate(timesteps)
    )


def _log_snr(alpha: float, sigma: float) -> float:
    """Half the log signal-to-noise ratio, infinite at either end (Lu et al. 2022, section 2.1)."""
    if alpha == 0.0:
        return -math.inf
    return math.inf if sigma == 0.0 else math.log(alpha / sigma)


def _extrapolation(gains: list[float], i: int) -> float:
    """The factor 1 / (2 r) of DPM-Solver++ 2M, with r = gain before / gain now.

    0, so first order, at the first move, which has no past; at the last, whose gain is infinite
    (Lu et al. 2022 lower the order at the end likewise); and after a move out of pure noise.
    """
    if i == 0 or math.isinf(gains[i]) or math.isinf(gains[i - 1]):
        return 0.0
    return gains[i] / (2 * gains[i - 1])
