"""Samplers: each a plan of moves along a schedule and one pure update.

:data:`SAMPLERS` holds all that is known of them. Recipe checks, the JSON Schema, training panels,
documentation and sampling read it there, so that a new sampler is one new entry. Every update is
written in the current estimate of ``x_0`` and of the noise, so it serves every prediction.

Nothing here needs torch before a sampler is used: recipes are checked without waiting for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxella.diffusion.moves import (
    Move,
    even_timesteps,
    leading_timesteps,
    plan_moves,
    quadratic_timesteps,
    shifted_timesteps,
)
from voxella.diffusion.names import family_of
from voxella.diffusion.sampler_facts import Estimate, SamplerFacts, Update
from voxella.diffusion.updates import ddim, ddim_eta, ddpm, dpmpp_2m, euler
from voxella.errors import UserError

if TYPE_CHECKING:
    from voxella.diffusion.schedule import Schedule

__all__ = [
    "SAMPLERS",
    "Estimate",
    "Sampler",
    "SamplerFacts",
    "eta_takers",
    "fitting",
    "make_sampler",
    "misfits",
    "quickest",
]

# Times are shifted before they are rounded: a plan this many times finer stands for no rounding.
_FINE = 1000


@dataclass(frozen=True)
class Sampler:
    """A sampler, its schedule and its plan. Built by :func:`make_sampler`.

    Attributes:
        name: As in a recipe.
        schedule: The path it walks back.
        moves: One per network call, noisiest first.
        update: See :class:`SamplerFacts`.
        stochastic: Whether ``update`` wants fresh noise (but for a move to clean data).
    """

    name: str
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


def make_sampler(
    name: str, schedule: Schedule, steps: int, *, eta: float = 0.0, shift: float = 1.0
) -> Sampler:
    """Plan ``steps`` network calls along a schedule.

    Args:
        name: As in a recipe.
        schedule: The path.
        steps: Network calls.
        eta: Share of fresh noise, from 0 (none) to 1, of a sampler that takes one (DDIM).
        shift: See :func:`voxella.diffusion.moves.shifted_timesteps`; for flows.

    Raises:
        UserError: When the sampler is unknown, does not go with the schedule, or cannot take that
            many steps; all problems at once.
        ValueError: The sampler takes no ``eta``.
    """
    _check(name, schedule, steps)
    facts = SAMPLERS[name]
    timesteps = facts.timesteps(schedule.steps, steps)
    if shift != 1.0:
        fine = _FINE * schedule.steps
        times = [(t + 1) / fine for t in facts.timesteps(fine, steps)]
        timesteps = shifted_timesteps(times, schedule.steps, shift)
    moves = plan_moves(schedule, timesteps, end=facts.end)
    if eta == 0.0:
        return Sampler(name, schedule, moves, facts.update, facts.stochastic)
    if facts.eta_update is None:
        raise ValueError(f"sampler {name} has no eta; received {eta}")
    return Sampler(name, schedule, moves, facts.eta_update(eta), stochastic=True)


def eta_takers() -> list[str]:
    """Return the samplers that take a share of fresh noise."""
    return [name for name, facts in SAMPLERS.items() if facts.eta_update is not None]


def fitting(schedule: str) -> list[str]:
    """Return the samplers that go with a schedule."""
    family = family_of(schedule)
    return [name for name, facts in SAMPLERS.items() if family in facts.families]


def quickest(schedule: str) -> tuple[str, int]:
    """Return the sampler of the highest order that goes with a schedule, and its usual steps."""
    few = [(name, steps) for name in fitting(schedule) if (steps := SAMPLERS[name].usual_steps)]
    return max(few, key=lambda one: SAMPLERS[one[0]].order)


def misfits(name: str, schedule: str, length: int, steps: int) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a known sampler on a schedule: the key of ``sample``, and the words.

    Args:
        name: The sampler.
        schedule: The schedule's name.
        length: Its timesteps.
        steps: Network calls asked for.
    """
    others = fitting(schedule)
    facts = SAMPLERS[name]
    if name not in others:
        yield (
            "sampler",
            f"{name} does not go with schedule {schedule}; expected: {', '.join(others)}",
        )
    if not 1 <= steps <= length:
        yield "steps", f"received {steps}; the schedule has {length} timesteps"
    elif length // steps < facts.stride:
        most = length // facts.stride
        yield "steps", f"received {steps}: {name} strides over timesteps; expected: 1 to {most}"
    elif name in others and facts.why_all is not None and steps != length:
        any_number = [other for other in others if SAMPLERS[other].why_all is None]
        yield (
            "steps",
            f"received {steps}: {name} takes all {length} steps of the schedule: {facts.why_all}; "
            f"expected: {length}, or sampler {' or '.join(any_number)}",
        )


def _check(name: str, schedule: Schedule, steps: int) -> None:
    """Refuse, all at once, what cannot be planned."""
    if name not in SAMPLERS:
        raise UserError(
            f"sample.sampler: there is no sampler {name!r}", expected=", ".join(SAMPLERS)
        )
    found = [
        f"sample.{key}: {text}" for key, text in misfits(name, schedule.name, schedule.steps, steps)
    ]
    if found:
        other, few = quickest(schedule.name)
        remedy = f"--set sample.sampler={other} --set sample.steps={min(few, schedule.steps)}"
        raise UserError("\n".join(found), remedy=remedy)


SAMPLERS: dict[str, SamplerFacts] = {
    "ddpm": SamplerFacts(
        "the reverse chain the model was trained for",
        ("variance-preserving",),
        order=1,
        usual_steps=None,
        timesteps=quadratic_timesteps,
        update=ddpm,
        stochastic=True,
        why_all="it draws each state from a Gaussian that is right only between neighbouring "
        "timesteps, and over longer strides returns too little variance",
    ),
    "ddim": SamplerFacts(
        "the probability-flow ODE",
        ("variance-preserving",),
        order=1,
        usual_steps=50,
        timesteps=quadratic_timesteps,
        update=ddim,
        eta_update=ddim_eta,
    ),
    "ddim_leading": SamplerFacts(
        "the same ODE on latent diffusion's timesteps (PathLDM), to the least noisy of them",
        ("variance-preserving",),
        order=1,
        usual_steps=50,
        timesteps=leading_timesteps,
        update=ddim,
        end=0,
        stride=2,
        eta_update=ddim_eta,
    ),
    "dpmpp_2m": SamplerFacts(
        "the same ODE, in the log of the SNR",
        ("variance-preserving", "flow"),
        order=2,
        usual_steps=20,
        timesteps=quadratic_timesteps,
        update=dpmpp_2m,
    ),
    "euler": SamplerFacts(
        "the flow ODE",
        ("flow",),
        order=1,
        usual_steps=30,
        timesteps=even_timesteps,
        update=euler,
    ),
}
