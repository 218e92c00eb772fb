"""Blocks of a recipe that say how the diffusion model learns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from voxella.diffusion.names import Prediction, Reconstruction, ScheduleName, family_of
from voxella.recipe.block import Block, Count, CountOrNone, SolverSteps

__all__ = ["Diffusion", "Dropout", "Loss", "Optimizer", "Train", "Vector", "Weighting"]


class Vector(Block):
    """One vector joined to the timestep embedding; the list's order is the order of joining."""

    name: str
    scale: float = 100.0


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


class Weighting(Block):
    """How much a timestep counts, beside what the prediction's own error says.

    ``p2``: 1 / (k + SNR)^gamma (Choi et al. 2022, arXiv:2204.00227, equation 8): less where little
    noise hides what is seen anyway.
    """

    name: Literal["p2"]
    k: float = Field(1.0, gt=0)
    gamma: float = Field(1.0, ge=0, description="0: all timesteps count the same")


class Loss(Block):
    """Reconstruction + class_weight x focal (CCELLA paper, equation 1)."""

    reconstruction: Reconstruction = "l1"
    class_weight: float = Field(0.0, ge=0)
    focal_gamma: float = Field(2.0, ge=0)
    focal_alpha: float | None = Field(
        0.75, ge=0, le=1, description="weight of the last class; None: no weights"
    )
    class_target_scale: float = Field(
        1.0, gt=0, description="100 in paper mode: the released code's target"
    )
    weighting: Weighting | None = Field(
        None,
        # Left out where there is none: hashes from before are those without it.
        exclude_if=lambda weighting: weighting is None,
        description="of timesteps; None: all count the same",
    )


class Dropout(Block):
    """Null conditioning during training, for classifier-free guidance. Off in the paper."""

    text: float = Field(0.0, ge=0, le=1, description="share of cases that see the empty report")
    label: float = Field(0.0, ge=0, le=1, description="share of cases whose class vector is zero")
    both: float = Field(
        0.0, ge=0, le=1, description="share of cases that lose both, and all conditions"
    )
    # Left out where it is none: hashes from before are those without it.
    conditions: float = Field(
        0.0,
        ge=0,
        le=1,
        exclude_if=lambda share: share == 0.0,
        description="share of cases whose named conditions are all missing",
    )
    spared: dict[str, float] = Field(
        default_factory=dict,
        exclude_if=lambda spared: not spared,
        description="by condition: cases of at least this value never lose their text (PathLDM's "
        "released code: {prob_til: 0.5}); one of which it is not known may",
    )


class Optimizer(Block):
    """AdamW with polynomial decay to zero."""

    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    decay_power: float = Field(2.0, ge=0, description="0 keeps the rate constant")
    warmup_steps: CountOrNone = 0


class Train(Block):
    """Length and bookkeeping of the training stage. The batch is `deepspeed.train_batch_size`."""

    epochs: Count | None = None
    steps: Count | None = Field(None, description="optimizer steps; exactly one of epochs, steps")
    ema_decay: float | None = Field(0.9999, gt=0, lt=1, description="None: no average is kept")
    gradient_checkpointing: bool = False
    compile: bool = False
    checkpoint_every: Count = Field(1000, description="steps")
    keep_checkpoints: Count = 2
    log_every: Count = Field(10, description="steps")
    panel_every: CountOrNone = Field(
        0, description="steps between fixed-seed sample panels; 0: none"
    )
    panel_steps: SolverSteps = Field(20, description="sampler steps of a panel")
    validate_every: CountOrNone = Field(0, description="steps between validation losses; 0: none")

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps (null removes an inherited one)")
        return self
