"""The recipe as data: one experiment, every key typed, none unknown.

Only shapes and ranges live here and in the modules of its blocks. Reading files is ``load.py``;
binding component blocks to their builders is ``bind.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from voxella.case.texts import ANY
from voxella.plugins.component import Component
from voxella.recipe.autoencoder import AutoencoderBlock, AutoencoderCheck
from voxella.recipe.block import Block, FolderName, Seed
from voxella.recipe.classification import Classify
from voxella.recipe.condition import Condition, ConditionName, Vector
from voxella.recipe.evaluation import Evaluate
from voxella.recipe.inputs import Data, Intensity, Latent, Prepare, Text
from voxella.recipe.objective.diffusion import Diffusion
from voxella.recipe.objective.loss import Loss
from voxella.recipe.sampling import Sample
from voxella.recipe.start import Init, Lora, RateGroup
from voxella.recipe.training import (
    AutoencoderTraining,
    Dropout,
    Optimizer,
    Train,
)

__all__ = [
    "AutoencoderBlock",
    "AutoencoderCheck",
    "AutoencoderTraining",
    "Component",
    "Condition",
    "Data",
    "Diffusion",
    "Dropout",
    "Init",
    "Intensity",
    "Latent",
    "Lora",
    "Loss",
    "Optimizer",
    "PaperRow",
    "Prepare",
    "RateGroup",
    "Recipe",
    "Sample",
    "Text",
    "Train",
    "Vector",
]


class PaperRow(Block):
    """The row of the paper's tables that this recipe is compared with; None where it has none."""

    model: str
    fid_3d: float | None = None
    fid_2d_sagittal: float | None = None
    fid_2d_coronal: float | None = None
    fid_2d_axial: float | None = None
    accuracy: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    ppv: float | None = None
    npv: float | None = None
    auc: float | None = None
    ap: float | None = None
    percent_positive: float | None = None
    # Left out where it is none: recipes and hashes from before are those without it.
    fid: float | None = Field(
        None,
        exclude_if=lambda fid: fid is None,
        description="2D, of Inception features of tiles in colour (PathLDM)",
    )
    reconstruction_ssim: float | None = Field(
        None,
        exclude_if=lambda ssim: ssim is None,
        description="of the autoencoder; the paper names no window",
    )
    reconstruction_mse: float | None = Field(
        None,
        exclude_if=lambda mse: mse is None,
        description="of the autoencoder; the paper names no scale, and 0 to 255 is taken for it",
    )
    classifier: str | None = Field(
        None,
        exclude_if=lambda name: name is None,
        description="plugin that is the paper's classifier; None: efficientnet (CCELLA)",
    )


class Recipe(Block):
    """One experiment, resolved. Built by :func:`voxella.load_recipe`."""

    name: FolderName
    description: str = ""
    seed: Seed = 0
    workspace: Path | None = Field(
        None, description="folder of prepared data and caches, shared between runs; None: the run's"
    )
    # Left out where there is none: recipes and hashes from before are those without it.
    workspace_seed: Seed | None = Field(
        None,
        exclude_if=lambda seed: seed is None,
        description="seed of what lies in the workspace: of the autoencoder, of augmented "
        "variations, of crops; None: `seed`. A study that repeats trainings keeps it",
    )
    paper: PaperRow | None = None
    data: Data = Data()
    prepare: Prepare = Prepare()
    autoencoder: AutoencoderBlock
    autoencoder_training: AutoencoderTraining | None = None
    autoencoder_check: AutoencoderCheck = AutoencoderCheck()
    text: Text | None = None
    latent: Latent = Latent()
    # Left out where there is none: recipes and hashes from before are those without it.
    conditions: dict[ConditionName, Condition] = Field(
        default_factory=dict,
        exclude_if=lambda conditions: not conditions,
        description="what else a case is known by, by name, and how it becomes a tensor",
    )
    conditioner: Component
    backbone: Component
    vectors: list[Vector] = Field(default_factory=list)
    diffusion: Diffusion = Diffusion()
    loss: Loss = Loss()
    dropout: Dropout = Dropout()
    # Left out where there is none: recipes and hashes from before are those without it.
    init: Init | None = Field(
        None,
        exclude_if=lambda init: init is None,
        description="weights that training starts from; None: drawn at random",
    )
    lora: Lora | None = Field(
        None,
        exclude_if=lambda lora: lora is None,
        description="train low-rank adapters of the backbone alone; None: all of it",
    )
    optimizer: Optimizer = Optimizer()
    train: Train
    deepspeed: dict[str, Any] = Field(description="DeepSpeed's configuration, in its own words")
    sample: Sample = Sample()
    evaluate: Evaluate = Evaluate()
    classify: Classify | None = None
    observers: list[Component] = Field(default_factory=list)

    @field_validator("conditions", mode="before")
    @classmethod
    def _without_null(cls, value: Any) -> Any:  # noqa: ANN401 - as it was written
        """Let null take away what a recipe inherits: all conditions, or one of them."""
        if not isinstance(value, dict):
            return {} if value is None else value
        return {name: block for name, block in value.items() if block is not None}

    @field_validator("vectors")
    @classmethod
    def _distinct(cls, vectors: list[Vector]) -> list[Vector]:
        names = [vector.name for vector in vectors]
        if len(set(names)) != len(names):
            raise ValueError("a vector is duplicated")
        return vectors

    @model_validator(mode="after")
    def _snapshots_are_of_all(self) -> Recipe:
        if self.lora is not None and self.train.snapshots is not None:
            raise ValueError("train.snapshots: not with lora, whose adapters are merged at the end")
        return self

    @property
    def shared_seed(self) -> int:
        """Return the seed of what lies in the workspace."""
        return self.seed if self.workspace_seed is None else self.workspace_seed

    @property
    def image_channels(self) -> int:
        """Return how many channels an image has: one a sequence, three where that is in colour."""
        return sum(self.prepare.channels_of(name) for name in self.data.sequences)

    @property
    def channels(self) -> dict[str, slice]:
        """Return which channels of an image each sequence has, in order."""
        places, begin = {}, 0
        for name in self.data.sequences:
            end = begin + self.prepare.channels_of(name)
            places[name], begin = slice(begin, end), end
        return places

    @property
    def colour_channels(self) -> frozenset[int]:
        """Return the channels of an image that are red, green or blue: their values stay."""
        return frozenset(
            channel
            for name, places in self.channels.items()
            if self.prepare.is_colour(name)
            for channel in range(places.start, places.stop)
        )

    @property
    def shown_channels(self) -> int:
        """Return how many channels the first sequence has, which pictures show."""
        return self.prepare.channels_of(self.data.sequences[0])

    @property
    def text_source(self) -> str:
        """Return which text of a case is read; ``any`` also where none is."""
        return ANY if self.text is None else self.text.source

    def fingerprint_data(self) -> dict[str, Any]:
        """Return the recipe as JSON-ready data (paths as strings)."""
        return self.model_dump(mode="json")
