"""Block of `voxella sample`: what is generated, how, and how it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from voxella.recipe.block import Block

__all__ = ["Sample", "Sweep"]


class Sweep(Block):
    """Several data sets in one call: every number of steps with every guidance."""

    steps: list[PositiveInt] = Field([], description="empty: sample.steps alone")
    guidance: list[NonNegativeFloat] = Field([], description="empty: sample.guidance alone")


class Sample(Block):
    """Generation."""

    sampler: Literal["ddpm", "ddim", "dpmpp_2m", "euler"] = "ddpm"
    steps: PositiveInt = 1000
    guidance: float = Field(1.0, ge=0, description="classifier-free guidance scale; 1 is off")
    guidance_null: list[Literal["text", "label"]] = Field(
        ["text", "label"], description="what the null twin lacks"
    )
    sweep: Sweep | None = Field(None, description="one data set for each combination")
    split: Literal["train", "val", "test"] = "train"
    prompts: Path | None = Field(
        None,
        description="JSON lines {id, report, label, spacing_mm} to generate from; None: the "
        "reports of the split",
    )
    count: PositiveInt | None = Field(None, description="cases of the split; None: all")
    per_case: PositiveInt = 1
    batch_size: PositiveInt = 1
    space: Literal["prepared", "source"] = Field(
        "prepared", description="source: resampled to the grid of the case's own scan"
    )
    int16_scale: float | None = Field(
        None, gt=0, description="factor to int16 (the paper's T2: 962); None: float32"
    )
    xlsx: bool = Field(False, description="write the released code's spreadsheet as well")
