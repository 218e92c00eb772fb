"""Blocks of a recipe up to the diffusion model's inputs: cases, images, latents, text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from voxella.recipe.block import Block, Component

__all__ = ["AutoencoderTraining", "Data", "Latent", "Prepare", "Text"]


class Data(Block):
    """Where cases come from and what they are."""

    dataset: Path | None = Field(
        None, description="folder with manifest.jsonl; None runs `importer`"
    )
    importer: Component | None = Field(None, description="runs when no data set is named")
    sequences: list[str] = Field(["t2w"], min_length=1, description="image channels, in order")
    classes: list[str] = Field(
        ["negative", "positive"], min_length=2, description="label names, in order"
    )


class Prepare(Block):
    """Raw images to the training grid."""

    crop_mm: list[float | None] = Field(
        [128.0, 128.0, None],
        description="centre crop in mm along R, A, S; None keeps the whole extent",
    )
    size: list[PositiveInt] = Field([256, 256, 128], description="voxels along R, A, S")
    percentiles: tuple[float, float] = Field(
        (0.0, 99.5), description="mapped to 0 and 1, then clipped"
    )
    interpolation: Literal["lanczos", "linear", "bspline"] = "lanczos"


class AutoencoderTraining(Block):
    """`voxella train-autoencoder`; absent where the weights come from a file."""

    steps: PositiveInt = 1000
    batch_size: PositiveInt = 2
    patch_size: list[PositiveInt] | None = Field(
        None, description="voxels; None uses whole volumes"
    )
    lr: float = Field(1e-3, gt=0)
    kl_weight: float = Field(1e-6, ge=0)
    gradient_weight: float = Field(
        0.0, ge=0, description="weight of the L1 between image gradients"
    )
    log_every: PositiveInt = 10


class Text(Block):
    """Reports to cached token features."""

    encoder: Component
    width: PositiveInt = Field(description="feature width F; the encoder's must equal it")
    max_tokens: PositiveInt = 512
    truncation: Literal["right", "left"] = Field(
        "right", description="which END of a long report is cut off"
    )
    padding: Literal["none", "max"] = Field(
        "none", description="max: paper mode, padded and unmasked"
    )
    dtype: Literal["bfloat16", "float32"] = "bfloat16"


class Latent(Block):
    """What the diffusion model sees."""

    channels: PositiveInt = 4
    size: list[PositiveInt] = Field(
        [64, 64, 32], min_length=2, max_length=3, description="voxels per axis"
    )
    dtype: Literal["bfloat16", "float32"] = "float32"
    draw: Literal["resample", "mean", "fixed"] = Field(
        "resample",
        description="draw anew each step, use the mean, or one fixed draw (paper mode)",
    )
    scale: Literal["exact", "first_batch"] | float = Field(
        "exact",
        description="factor on latents: 1/std over the training set, of the first batch, or given",
    )
