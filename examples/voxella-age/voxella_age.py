"""Conditioner ``age``: the patient's age as one vector beside the timestep.

The recipe says how a case's field ``age`` becomes a tensor (block ``conditions``), the conditioner
that it needs ``age``; the engine brings the two together, in training, in prompts and in
``voxella.Generator``. Nothing of voxella itself knows the word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.plugins import hookimpl

__all__ = ["AgeConditioner", "age", "voxella_factory"]


class AgeConditioner(nn.Module):
    """Sines and cosines of the age, a learnt vector where it is not known, two linear layers.

    Args:
        width: Width K of the vector ``age``.
        waves: How many sines; each is twice as fine as the one before.
    """

    def __init__(self, width: int, waves: int) -> None:
        super().__init__()
        self.context_dim: int | None = None
        self.vector_sizes: Mapping[str, int] = {"age": width}
        self.needs = frozenset({"age"})
        self.waves = waves
        self.unknown = nn.Parameter(torch.zeros(2 * waves))
        self.project = nn.Sequential(
            nn.Linear(2 * waves, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, *, timesteps: Tensor, age: Tensor) -> Conditioning:
        """Map ``age`` ``(B, 2)``, its place in its range and whether it is known, to ``(B, K)``."""
        place, known = age[:, :1], age[:, 1:]
        # At most a quarter of the slowest wave on either side: no two ages look alike.
        steps = 2.0 ** torch.arange(self.waves, device=age.device) * (math.pi / 2)
        waves = torch.cat([(place * steps).sin(), (place * steps).cos()], dim=1)  # (B, 2 waves)
        # A case without an age, and one that lost it to dropout, is the unknown vector alone.
        return Conditioning(
            vectors={"age": self.project(known * waves + (1 - known) * self.unknown)}
        )


def age(*, width: int = 64, waves: int = 4) -> AgeConditioner:
    """Build the conditioner; a recipe may set both arguments."""
    return AgeConditioner(width, waves)


@hookimpl
def voxella_factory(name: str) -> Callable[..., AgeConditioner] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return age if name == "age" else None
