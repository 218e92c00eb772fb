"""The block ``diffusion``: the forward process, what is predicted, which timesteps are trained."""

from __future__ import annotations

from pydantic import Field, model_validator

from voxella.diffusion.names import Prediction, ScheduleName, TimestepDraw, family_of
from voxella.recipe.block import Block, SolverSteps

__all__ = ["Diffusion", "Timesteps"]


class Timesteps(Block):
    """How the timestep of a training visit is drawn (Esser et al. 2024, arXiv:2403.03206).

    Validation losses keep even timesteps, so that they can be compared.
    """

    name: TimestepDraw
    location: float = Field(
        0.0, description="of logit_normal: mean of the normal; above 0 there is more noise"
    )
    scale: float = Field(1.0, gt=0, description="of logit_normal: its standard deviation")
    shift: float | None = Field(
        None,
        gt=0,
        description="of a flow: edge of the latent cube whose timesteps stay; those of larger "
        "latents are moved towards the noise (MAISI: 32). None: no timestep is",
    )

    @model_validator(mode="after")
    def _of_the_normal(self) -> Timesteps:
        if self.name == "uniform" and (self.location, self.scale) != (0.0, 1.0):
            raise ValueError("location and scale are logit_normal's; expected: shift alone")
        return self


class Diffusion(Block):
    """The forward process and what the network predicts."""

    schedule: ScheduleName = "scaled_linear"
    steps: SolverSteps = 1000
    beta_start: float = Field(0.0015, gt=0, lt=1)
    beta_end: float = Field(0.0195, gt=0, lt=1)
    prediction: Prediction = "epsilon"
    timesteps: Timesteps | None = Field(
        None,
        # Left out where they are even: hashes from before are those without it.
        exclude_if=lambda timesteps: timesteps is None,
        description="which ones training sees; None: all equally often",
    )

    @model_validator(mode="after")
    def _flow_goes_with_flow(self) -> Diffusion:
        flow = family_of(self.schedule) == "flow"
        if flow != (self.prediction == "flow"):
            raise ValueError("schedule rectified_flow and prediction flow belong together")
        if self.timesteps is not None and self.timesteps.shift is not None and not flow:
            raise ValueError("timesteps.shift: only a flow's timesteps are shifted; expected: null")
        return self
