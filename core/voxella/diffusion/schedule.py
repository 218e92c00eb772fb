"""Noise schedules: how much signal and how much noise a sample holds at each timestep.

Every schedule is one path ``x_t = alpha_t x_0 + sigma_t noise`` over integer timesteps
``t = 0 .. steps - 1``, which are also what the network is told. ``t = 0`` is the least noisy state
a network sees; the clean sample (alpha 1, sigma 0) lies one step before it and has no timestep.

Two families:

* variance-preserving (``scaled_linear``, ``linear``, ``cosine``): ``alpha^2 + sigma^2 = 1``;
* ``rectified_flow``: ``alpha = 1 - s``, ``sigma = s`` with ``s = (t + 1) / steps`` in (0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from voxella.diffusion.names import ScheduleName
from voxella.errors import UserError

__all__ = ["Schedule", "make_schedule"]

# Sampling starts from N(0, I), so the last timestep must be nearly pure noise. 0.1 admits every
# schedule in use (paper 0.012, Stable Diffusion 0.068) and refuses the paper's betas on 50 steps
# (0.80).
_MAX_FINAL_ALPHA = 0.1


@dataclass(frozen=True, eq=False)
class Schedule:
    """A path from data to noise, computed once in float64.

    Attributes:
        name: The schedule's name in a recipe.
        alphas: ``(steps,)`` float64 on the CPU, signal factor by timestep.
        sigmas: ``(steps,)`` float64 on the CPU, noise standard deviation by timestep.
    """

    name: ScheduleName
    alphas: Tensor
    sigmas: Tensor
    # Copies by device and dtype: indexing a CPU table with timesteps on a GPU would stall the GPU.
    _copies: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = field(
        default_factory=dict, repr=False
    )

    @property
    def steps(self) -> int:
        """Return the number of timesteps."""
        return len(self.alphas)

    def alpha(self, t: Tensor | int) -> Tensor:
        """Return the signal factor at ``t``, float32, shaped and placed like ``t``."""
        return self._tables(torch.as_tensor(t).device, torch.float32)[0][t]

    def sigma(self, t: Tensor | int) -> Tensor:
        """Return the noise standard deviation at ``t``, float32, shaped and placed like ``t``."""
        return self._tables(torch.as_tensor(t).device, torch.float32)[1][t]

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """Return ``x_t = alpha_t x_0 + sigma_t noise`` (Ho et al. 2020, equation 4).

        Args:
            x0: ``(B, C, *spatial)`` with any number of spatial axes, none included.
            noise: Standard normal, of the same shape.
            t: ``(B,)``, or one timestep for the whole batch.

        Returns:
            ``(B, C, *spatial)`` in float32, or in float64 where ``x0`` is.
        """
        alpha, sigma = self.coefficients(t, x0)
        return alpha * x0 + sigma * noise

    def coefficients(self, t: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at ``t``, ready to multiply ``like`` ``(B, C, *spatial)``.

        They have ``like``'s device and at least float32, so that a half-precision ``like`` is
        promoted: near the clean end ``1 - alpha`` is far below the resolution of bf16.
        """
        dtype = torch.promote_types(like.dtype, torch.float32)
        index = torch.as_tensor(t, device=like.device).reshape(-1, *[1] * (like.ndim - 1))
        alphas, sigmas = self._tables(like.device, dtype)
        return alphas[index], sigmas[index]

    def _tables(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return alphas and sigmas on a device, copied there once."""
        if (device, dtype) not in self._copies:
            self._copies[device, dtype] = (
                self.alphas.to(device, dtype),
                self.sigmas.to(device, dtype),
            )
        return self._copies[device, dtype]


def make_schedule(
    schedule: ScheduleName, steps: int, beta_start: float, beta_end: float
) -> Schedule:
    """Build a schedule from a recipe's ``diffusion`` block.

    Args:
        schedule: Which one, see the module.
        steps: Number of timesteps.
        beta_start: First beta of ``scaled_linear`` and ``linear``; the other two have none.
        beta_end: Last beta, likewise.

    Raises:
        UserError: For an unknown name, numbers outside their range, or betas that leave so much
            signal at the last timestep that sampling could not start from noise.
    """
    _check(schedule, steps, beta_start, beta_end)
    if schedule == "rectified_flow":
        alphas, sigmas = _straight_path(steps)
    elif schedule == "cosine":
        alphas, sigmas = _variance_preserving(_cosine_betas(steps))
    else:
        power = 2 if schedule == "scaled_linear" else 1
        alphas, sigmas = _variance_preserving(_linear_betas(steps, beta_start, beta_end, power))
    _check_ends_in_noise(schedule, steps, float(alphas[-1]))
    return Schedule(schedule, alphas, sigmas)


def _linear_betas(steps: int, start: float, end: float, power: int) -> Tensor:
    """Betas whose ``power``-th root is linear: 1 is Ho et al. 2020, section 4; 2 is LDM's."""
    root = torch.linspace(start ** (1 / power), end ** (1 / power), steps, dtype=torch.float64)
    return root**power


def _cosine_betas(steps: int) -> Tensor:
    """Betas of the cosine schedule, clipped at 0.999 (Nichol and Dhariwal 2021, equation 17)."""
    offset = 0.008
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    signal = torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - signal[1:] / signal[:-1]).clamp(max=0.999)


def _variance_preserving(betas: Tensor) -> tuple[Tensor, Tensor]:
    """Alphas and sigmas from betas: alpha_t^2 = prod (1 - beta) (Ho et al. 2020, equation 4)."""
    log_signal = torch.log1p(-betas).cumsum(0)
    # expm1 keeps sigma exact where 1 - alpha^2 would cancel.
    return torch.exp(log_signal / 2), torch.sqrt(-torch.expm1(log_signal))


def _straight_path(steps: int) -> tuple[Tensor, Tensor]:
    """Alphas and sigmas of a rectified flow: x = (1 - s) x_0 + s noise (Liu et al. 2022, eq. 1).

    Time runs from data to noise (Esser et al. 2024), the reverse of Liu's. MAISI's scheduler has
    ``s = t / 1000``: it trains t = 0 .. 999 and starts sampling at t = 1000, a timestep no
    training step saw. Here ``s = (t + 1) / steps``, so that the timestep of pure noise is trained
    and the useless one without noise is not: our ``t`` is MAISI's ``t - 1``.
    """
    time = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    return 1 - time, time


def _check(schedule: str, steps: int, beta_start: float, beta_end: float) -> None:
    """Refuse, all at once, what no schedule can be built from."""
    problems = []
    if schedule not in get_args(ScheduleName):
        problems.append(f"diffusion.schedule: there is no schedule {schedule!r}")
    if steps < 1:
        problems.append(f"diffusion.steps is {steps}; at least one timestep is needed")
    if not 0 < beta_start <= beta_end < 1:
        problems.append(
            f"diffusion.beta_start is {beta_start} and diffusion.beta_end {beta_end}; "
            "0 < beta_start <= beta_end < 1 must hold"
        )
    if problems:
        raise UserError(
            "\n".join(problems),
            expected="schedules " + ", ".join(get_args(ScheduleName)),
            remedy="the paper's: schedule scaled_linear, steps 1000, betas 0.0015 to 0.0195",
        )


def _check_ends_in_noise(schedule: str, steps: int, final_alpha: float) -> None:
    """Refuse betas under which sampling from pure noise would start off the trained path."""
    if final_alpha <= _MAX_FINAL_ALPHA:
        return
    raise UserError(
        f"diffusion: schedule {schedule} with {steps} steps and these betas still holds "
        f"{final_alpha:.2f} of the signal at its last step, but sampling starts from pure noise",
        expected=f"at most {_MAX_FINAL_ALPHA} of the signal",
        remedy="raise diffusion.beta_end or diffusion.steps, or take diffusion.schedule=cosine, "
        "which ends in noise for any number of steps",
    )
