"""Blocks of a recipe that say how the diffusion model learns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from voxella.diffusion.names import Prediction, Reconstruction, ScheduleName, family_of
from voxella.errors import UserError
from voxella.plugins.registry import builder
from voxella.recipe.block import Block, Count, CountOrNone, SolverSteps, Width
from voxella.wording import shown_path

__all__ = [
    "Diffusion",
    "Dropout",
    "Init",
    "Lora",
    "Loss",
    "Optimizer",
    "RateGroup",
    "Train",
    "Vector",
    "check_init",
    "lora_problems",
]

Part = Literal["backbone", "conditioner"]
Pattern = Annotated[str, Field(min_length=1)]
OWN = "voxella"


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


class RateGroup(Block):
    """Parameters with a learning rate of their own."""

    match: Pattern = Field(
        description="of parameters' names: a part (conditioner), or a pattern (backbone.*.attn2.*)"
    )
    lr: float = Field(gt=0)


class Optimizer(Block):
    """AdamW with polynomial decay to zero."""

    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    decay_power: float = Field(2.0, ge=0, description="0 keeps the rate constant")
    warmup_steps: CountOrNone = 0
    # Left out where there is none: recipes and hashes from before are those without it.
    groups: list[RateGroup] = Field(
        default_factory=list,
        exclude_if=lambda groups: not groups,
        description="other learning rates; the first that matches a parameter counts",
    )


class Init(Block):
    """Weights that training starts from, and what of the model stays as it is."""

    path: Path | None = Field(
        None,
        alias="from",
        description="a model folder (RUN/model), or a file of the source; None: drawn at random",
    )
    source: str = Field(OWN, description="whose names the file has: voxella, or a plugin `sources`")
    parts: list[Part] = Field(["backbone", "conditioner"], description="what is taken from it")
    missing: Literal["refuse", "new"] = Field(
        "refuse",
        description="what the file lacks: refuse; new: it starts at random, and where the backbone "
        "would read it at zero, so that the backbone predicts what it did",
    )
    freeze: list[Pattern] = Field(
        default_factory=list,
        description="parameters that stay as they are: parts (backbone) or patterns of names",
    )

    @field_validator("parts", mode="before")
    @classmethod
    def _not_the_autoencoder(cls, parts: Any) -> Any:  # noqa: ANN401 - as it was written
        if isinstance(parts, list) and "autoencoder" in parts:
            raise ValueError(
                "the autoencoder is trained by itself, and has weights of its own: expected "
                "backbone, conditioner; the same file under autoencoder.weights"
            )
        return parts

    @field_validator("parts")
    @classmethod
    def _some_part(cls, parts: list[str]) -> list[str]:
        if not parts or len(set(parts)) != len(parts):
            raise ValueError("expected: backbone, conditioner, or both")
        return parts


class Lora(Block):
    """Low-rank adapters on linear layers of the backbone (Hu et al. 2022, arXiv:2106.09685)."""

    rank: Width = Field(8, description="of each adapter's two matrices")
    alpha: float | None = Field(None, gt=0, description="they act times alpha / rank; None: rank")
    targets: list[Pattern] = Field(
        default_factory=list,
        description="last parts of layers' names; none: the attention's projections",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="of the adapters' inputs, in training")
    export: Literal["merged", "apart"] = Field(
        "merged",
        description="merged: a model like any other; apart: what was trained alone, a few MB, put "
        "on the weights of init.from when it is loaded",
    )


def lora_problems(
    lora: Lora | None, init: Init | None, weights: object
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Adapters are put on trained weights, which a model kept apart must be able to name.

    Args:
        lora: The recipe's block.
        init: The recipe's block.
        weights: Of the backbone's own argument of that name; None: it has none.
    """
    named = init is not None and init.path is not None and "backbone" in init.parts
    if lora is None or named or (weights is not None and lora.export == "merged"):
        return
    yield ("lora",), "adapters are of a trained backbone; expected: init: {from: MODEL or FILE}"


def check_init(init: Init) -> None:
    """Refuse weights to start from that are not there, before anything else is done.

    Raises:
        UserError: The file does not exist, a folder is no model's, or there is no such source.
    """
    if init.source != OWN:
        builder("sources", init.source)
    if init.path is None:
        return
    remedy = "name an existing file or model folder, or start from nothing: --set init.from=null"
    if not init.path.exists():
        shown = shown_path(init.path)
        raise UserError(f"init.from: training starts from {shown}, which is absent", remedy=remedy)
    if init.source == OWN and init.path.is_dir() and not (init.path / "model.json").is_file():
        raise UserError(
            f"init.from: {shown_path(init.path)} is no exported model: it has no model.json",
            expected="RUN/model, as voxella train writes it; for a file of another release: "
            "init.source",
            remedy=remedy,
        )


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
