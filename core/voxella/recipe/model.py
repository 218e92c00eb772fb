"""The recipe as data: one experiment, every key typed, none unknown.

Only shapes and ranges live here and in the modules of its blocks. Reading files is ``load.py``;
binding component blocks to their builders is ``bind.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator

from voxella.recipe.block import Block, Component
from voxella.recipe.inputs import AutoencoderTraining, Data, Latent, Prepare, Text
from voxella.recipe.training import Diffusion, Dropout, Loss, Optimizer, Train, Vector

__all__ = [
    "AutoencoderTraining",
    "Component",
    "Data",
    "Diffusion",
    "Dropout",
    "Latent",
    "Loss",
    "Optimizer",
    "PaperRow",
    "Prepare",
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


class Sample(Block):
    """Generation."""

    sampler: Literal["ddpm", "ddim", "dpmpp_2m", "euler"] = "ddpm"
    steps: PositiveInt = 1000
    guidance: float = Field(1.0, ge=0, description="classifier-free guidance scale; 1 is off")
    guidance_null: list[Literal["text", "label"]] = Field(
        ["text", "label"], description="what the null twin lacks"
    )
    split: Literal["train", "val", "test"] = "train"
    count: PositiveInt | None = Field(None, description="cases of the split; None: all")
    per_case: PositiveInt = 1
    batch_size: PositiveInt = 1
    int16_scale: float | None = Field(
        None, gt=0, description="factor to int16 (the paper's T2: 962); None: float32"
    )


class Recipe(Block):
    """One experiment, resolved. Built by :func:`voxella.load_recipe`."""

    name: str
    description: str = ""
    seed: int = Field(0, ge=0)
    workspace: Path | None = Field(
        None, description="folder of prepared data and caches, shared between runs; None: the run's"
    )
    paper: PaperRow | None = None
    data: Data = Data()
    prepare: Prepare = Prepare()
    autoencoder: Component
    autoencoder_training: AutoencoderTraining | None = None
    text: Text | None = None
    latent: Latent = Latent()
    conditioner: Component
    backbone: Component
    vectors: list[Vector] = Field(default_factory=list)
    diffusion: Diffusion = Diffusion()
    loss: Loss = Loss()
    dropout: Dropout = Dropout()
    optimizer: Optimizer = Optimizer()
    train: Train
    deepspeed: dict[str, Any] = Field(description="DeepSpeed's configuration, in its own words")
    sample: Sample = Sample()
    observers: list[Component] = Field(default_factory=list)

    @field_validator("vectors")
    @classmethod
    def _distinct(cls, vectors: list[Vector]) -> list[Vector]:
        names = [vector.name for vector in vectors]
        if len(set(names)) != len(names):
            raise ValueError("a vector stands twice")
        return vectors

    def fingerprint_data(self) -> dict[str, Any]:
        """Return the recipe as JSON-ready data (paths as strings)."""
        return self.model_dump(mode="json")
