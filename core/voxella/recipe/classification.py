"""Blocks of a downstream experiment: a classifier of images, trained on real or synthetic ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from voxella.plugins.component import Component
from voxella.recipe.augment import Augment
from voxella.recipe.block import Block
from voxella.recipe.ranges import Voxels
from voxella.recipe.training import Optimizer, Train

__all__ = ["Classify", "Focal"]


class Focal(Block):
    """Focal loss of the classifier (softmax form)."""

    gamma: float = Field(2.0, ge=0)
    alpha: float | None = Field(None, ge=0, le=1, description="weight of the last class")


class Classify(Block):
    """`voxella classify`: which images, which labels, which network."""

    classifier: Component
    training_set: Literal["real", "synthetic", "both", "synthetic_then_real"] = "real"
    label: Literal["clinical", "predicted"] = Field(
        "clinical", description="of synthetic images: the report's own label, or the text head's"
    )
    samples: Path | None = Field(
        None, description="synthetic data set folder; None: the run's own samples"
    )
    size: list[Voxels] = Field([256, 256, 32], description="voxels along R, A, S")
    percentiles: tuple[float, float] = Field((0.0, 98.0), description="mapped to 0 and 1")
    foreground_crop: bool = Field(True, description="cut off what is empty around the body")
    slice_mm: float | None = Field(
        3.0,
        gt=0,
        description="slice distance before pad or crop, about a scan's own; None: as prepared",
    )
    slice_interpolation: Literal["lanczos", "mean"] = Field(
        "lanczos",
        description="lanczos: the value at each slice's middle, as the released code; mean: of the "
        "thin slices that lie in it",
    )
    augment: Augment = Augment()
    loss: Focal = Focal()
    optimizer: Optimizer = Optimizer()
    train: Train = Field(description="`validate_every` 0: after each epoch")
    finetune: Train | None = Field(
        None, description="length of the second half of synthetic_then_real; None: as `train`"
    )
    deepspeed: dict[str, Any] = Field(description="DeepSpeed's configuration, in its own words")
    seeds: int = Field(1, ge=1, le=1000, description="trainings that differ in the seed alone")
    baselines: list[Literal["logistic", "neighbours"]] = Field(
        default_factory=list,
        description="simple models on coarse images, measured beside the network",
    )
    on_one_class: Literal["stop", "warn"] = Field(
        "stop", description="where a training set lacks a class: nothing can be learnt"
    )
