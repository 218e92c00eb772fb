"""The block ``diffusion``: the forward process, and what the network predicts."""

from __future__ import annotations

from pydantic import Field, model_validator

from voxella.diffusion.names import Prediction, ScheduleName, family_of
from voxella.recipe.block import Block, SolverSteps

__all__ = ["Diffusion"]


class Diffusion(Block):
    """The forward process and what the network predicts."""

    schedule: ScheduleName = "scaled_linear"
    steps: SolverSteps = 1000
    beta_start: float = Field(0.0015, gt=0, lt=1)
    beta_end: float = Field(0.0195, gt=0, lt=1)
    prediction: Prediction = "epsilon"

    @model_validator(mode="after")
    def _flow_goes_with_flow(self) -> Diffusion:
        if (family_of(self.schedule) == "flow") != (self.prediction == "flow"):
            raise ValueError("schedule rectified_flow and prediction flow belong together")
        return self
