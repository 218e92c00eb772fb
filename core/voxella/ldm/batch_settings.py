"""What a recipe says of the batches that its model learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from voxella.conditioning import SPACING
from voxella.recipe.condition import Condition
from voxella.recipe.model import Dropout, Recipe
from voxella.recipe.objective.diffusion import Timesteps

__all__ = ["BatchSettings"]


@dataclass(frozen=True)
class BatchSettings:
    """What a recipe says of the batches that its model learns from.

    Attributes:
        seed: Of everything that is drawn.
        classes: Label names, in order.
        conditions: How a case's values become tensors, by name.
        draw: ``latent.draw``.
        timesteps: How many there are to draw from.
        dropout: Which conditions are nulled how often.
        spacing: Whether the model is told it.
        draws: How a timestep is drawn; None: all are equally likely.
    """

    seed: int
    classes: Sequence[str]
    conditions: Mapping[str, Condition]
    draw: Literal["resample", "mean", "fixed"]
    timesteps: int
    dropout: Dropout
    spacing: bool
    draws: Timesteps | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> BatchSettings:
        """Return a recipe's."""
        return cls(
            recipe.seed,
            recipe.data.classes,
            recipe.conditions,
            recipe.latent.draw,
            recipe.diffusion.steps,
            recipe.dropout,
            any(vector.name == SPACING for vector in recipe.vectors),
            recipe.diffusion.timesteps,
        )
