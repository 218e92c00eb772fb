"""Block of `voxella evaluate`: with what, against which cases, how sure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from voxella.recipe.block import Block

__all__ = ["Evaluate"]


class Evaluate(Block):
    """Measures the synthetic data set against the real one."""

    real_split: Literal["train", "val", "test"] = Field(
        "train", description="real cases that the synthetic ones are compared with"
    )
    medicalnet: Path | None = Field(
        None, description="MedicalNet ResNet-50 weights (.pth) for 3D features; None: random ones"
    )
    radimagenet: Path | None = Field(
        None, description="RadImageNet ResNet-50 weights for 2D features; None: random ones"
    )
    feature_seed: int = Field(0, ge=0, description="of the random networks")
    batch_size: PositiveInt = 1
    bootstrap: PositiveInt = Field(1000, description="resamples of every interval")
    floor_halves: PositiveInt = Field(20, description="random halves of the real cases")
    level: float = Field(0.95, gt=0.5, lt=1, description="of every interval")
    gate: float | None = Field(
        None, ge=0, le=1, description="largest share of suspected copies that sampling may export"
    )
    size_tolerance_mm: float = Field(5.0, gt=0, description="of a phantom's lesion size")
