"""Samplers: each a plan of moves along a schedule and one pure update.

Every update is written in the current estimate of ``x_0`` and of the noise, so it serves every
prediction. Coefficients are Python floats computed in float64 before the first network call.

| sampler  | schedules           | steps       | what it solves                                   |
|----------|---------------------|-------------|--------------------------------------------------|
| ddpm     | variance-preserving | all of them | the reverse chain the model was trained for      |
| ddim     | variance-preserving | any         | the probability-flow ODE, first order            |
| dpmpp_2m | both families       | any         | the same ODE, second order in the log of the SNR |
| euler    | rectified_flow      | any         | the flow ODE, first order                        |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from voxella.diffusion.schedule import Schedule
from voxella.errors import UserError

__all__ = ["Estimate", "Move", "Sampler", "SamplerName", "make_sampler"]

SamplerName = Literal["ddpm", "ddim", "dpmpp_2m", "euler"]


@dataclass(frozen=True)
class Move:
    """One step of sampling, from timestep ``t`` to a less noisy state.

    Attributes:
        t: The timestep the network is told.
        alpha: Signal factor here.
        sigma: Noise standard deviation here.
        alpha_next: Signal factor after the move; 1 after the last.
        sigma_next: Noise standard deviation after the move; 0 after the last.
        extrapolation: How far DPM-Solver++ continues the change of x_0 since the move before.
    """

    t: int
    alpha: float
    sigma: float
    alpha_next: float
    sigma_next: float
    extrapolation: float


@dataclass(frozen=True)
class Estimate:
    """The network's opinion at one state: ``x_t = alpha x0 + sigma epsilon``.

    Attributes:
        x0: ``(B, C, *spatial)``.
        epsilon: Of the same shape.
        previous_x0: ``x0`` of the move before, None at the first.
    """

    x0: Tensor
    epsilon: Tensor
    previous_x0: Tensor | None


Update = Callable[[Move, Tensor, Estimate, Tensor | None], Tensor]


@dataclass(frozen=True)
class Sampler:
    """A sampler, its schedule and its plan. Built by :func:`make_sampler`.

    Attributes:
        name: As in a recipe.
        schedule: The path it walks back.
        moves: One per network call, noisiest first.
        update: ``(move, x_t, estimate, fresh noise or None) -> x_next``; pure.
        stochastic: Whether ``update`` wants fresh noise (but for the last move).
    """

    name: SamplerName
    schedule: Schedule
    moves: tuple[Move, ...]
    update: Update
    stochastic: bool

    @property
    def steps(self) -> int:
        """Return the number of network calls."""
        return len(self.moves)

    @property
    def timesteps(self) -> tuple[int, ...]:
        """Return the timesteps the network is called at, noisiest first."""
        return tuple(move.t for move in self.moves)


def make_sampler(name: SamplerName, schedule: Schedule, steps: int) -> Sampler:
    """Plan ``steps`` network calls along a schedule.

    Raises:
        UserError: When the sampler is unknown, does not go with the schedule, or cannot take that
            many steps; all problems at once.
    """
    _check(name, schedule, steps)
    spaced = even_timesteps if name == "euler" else quadratic_timesteps
    moves = plan_moves(schedule, spaced(schedule.steps, steps))
    return Sampler(name, schedule, moves, _UPDATES[name], stochastic=name == "ddpm")


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


def plan_moves(schedule: Schedule, timesteps: Sequence[int]) -> tuple[Move, ...]:
    """Return the moves through ``timesteps``, noisiest first, and from the last to clean data."""
    timesteps = list(timesteps)
    alphas = [*schedule.alphas[timesteps].tolist(), 1.0]
    sigmas = [*schedule.sigmas[timesteps].tolist(), 0.0]
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


def _ddpm(move: Move, x_t: Tensor, estimate: Estimate, noise: Tensor | None) -> Tensor:
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


def _ddim(move: Move, x_t: Tensor, estimate: Estimate, noise: Tensor | None) -> Tensor:
    """Move without fresh noise: eta 0 (Song et al. 2021, equation 12 with sigma 0)."""
    return move.alpha_next * estimate.x0 + move.sigma_next * estimate.epsilon


def _dpmpp_2m(move: Move, x_t: Tensor, estimate: Estimate, noise: Tensor | None) -> Tensor:
    """Take a step of DPM-Solver++ 2M (Lu et al. 2022, "DPM-Solver++", algorithm 2).

    Their ``alpha_next (exp(-h) - 1)`` is written out with ``exp(-h) = sigma_next alpha / (sigma
    alpha_next)``, which stays finite at both ends.
    """
    x0 = estimate.x0
    if estimate.previous_x0 is not None and move.extrapolation != 0.0:
        x0 = x0 + move.extrapolation * (x0 - estimate.previous_x0)
    ratio = move.sigma_next / move.sigma
    return ratio * x_t + (move.alpha_next - ratio * move.alpha) * x0


def _euler(move: Move, x_t: Tensor, estimate: Estimate, noise: Tensor | None) -> Tensor:
    """Follow the velocity ``dx/ds = noise - x_0`` for one step (Liu et al. 2022, equation 1)."""
    return x_t + (move.sigma_next - move.sigma) * (estimate.epsilon - estimate.x0)


_UPDATES: dict[SamplerName, Update] = {
    "ddpm": _ddpm,
    "ddim": _ddim,
    "dpmpp_2m": _dpmpp_2m,
    "euler": _euler,
}


def _check(name: str, schedule: Schedule, steps: int) -> None:
    """Refuse, all at once, what cannot be planned."""
    if name not in _UPDATES:
        raise UserError(f"sample.sampler: there is no sampler {name!r}", legal=", ".join(_UPDATES))
    problems = []
    fitting = ["euler", "dpmpp_2m"] if schedule.is_flow else ["ddpm", "ddim", "dpmpp_2m"]
    if name not in fitting:
        problems.append(f"sample.sampler {name} does not go with schedule {schedule.name}")
    if not 1 <= steps <= schedule.steps:
        problems.append(f"sample.steps is {steps}; the schedule has {schedule.steps} timesteps")
    elif name == "ddpm" and "ddpm" in fitting and steps != schedule.steps:
        problems.append(
            f"sampler ddpm takes all {schedule.steps} steps of the schedule, not {steps}: it draws "
            "each state from a Gaussian that is right only between neighbouring timesteps, and "
            "over longer strides returns too little variance"
        )
    if problems:
        raise UserError(
            "\n".join(problems),
            legal=f"with this schedule {', '.join(fitting)}; 1 to {schedule.steps} steps"
            + ("" if schedule.is_flow else f" (ddpm: {schedule.steps})"),
            remedy=f"--set sample.sampler=dpmpp_2m --set sample.steps={min(20, schedule.steps)}",
        )
