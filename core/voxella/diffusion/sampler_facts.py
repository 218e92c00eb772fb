"""What a sampler is: a plan, an update, and the estimate that the update is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxella.diffusion.moves import Move
from voxella.diffusion.names import Family

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Estimate", "SamplerFacts", "Update"]


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


Update = Callable[[Move, "Tensor", Estimate, "Tensor | None"], "Tensor"]


@dataclass(frozen=True)
class SamplerFacts:
    """All that is known of a sampler.

    Attributes:
        solves: In a few words.
        families: The schedules it goes with.
        order: Of its error in the length of a step.
        usual_steps: Network calls that it is usually given; None: every step of the schedule.
        timesteps: ``(steps of the schedule, network calls) -> timesteps``, noisiest first.
        update: ``(move, x_t, estimate, fresh noise or None) -> x_next``; pure.
        stochastic: Whether ``update`` wants fresh noise (but for a move to clean data).
        why_all: Why it takes every step of the schedule; None: it takes any number.
        end: The timestep at which it ends; None: at clean data.
        stride: Timesteps from one network call to the next, at least.
        eta_update: The update with a share of fresh noise, ``eta``; None: it has no such share.
    """

    solves: str
    families: tuple[Family, ...]
    order: int
    usual_steps: int | None
    timesteps: Callable[[int, int], list[int]]
    update: Update
    stochastic: bool = False
    why_all: str | None = None
    end: int | None = None
    stride: int = 1
    eta_update: Callable[[float], Update] | None = None
