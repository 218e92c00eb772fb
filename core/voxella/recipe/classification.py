"""Blocks of a downstream experiment: a classifier of images, trained on real or synthetic ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from voxella.errors import UserError
from voxella.plugins.component import Component
from voxella.recipe.augment import Augment
from voxella.recipe.block import Block, Voxels
from voxella.recipe.inputs import Data
from voxella.recipe.training import Optimizer, Train

__all__ = ["Classify", "Focal"]


class Focal(Block):
    """Focal loss of the classifier (softmax form)."""

    gamma: float = Field(2.0, ge=0)
    alpha: float | None = Field(None, ge=0, le=1, description="weight of the last class")


class Classify(Block):
    """`voxella classify`: which images, which labels, which network."""

    classifier: Component
    classes: dict[str, list[str]] = Field(
        default_factory=dict,
        exclude_if=lambda classes: not classes,
        description="what the classifier tells apart, where that is less than data.classes: the "
        "labels that each of its classes is made of; a case of none is left out",
    )
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

    def data_of(self, data: Data) -> Data:
        """Return the data block with the classifier's own classes in the place of the labels.

        Raises:
            UserError: A class is made of a label that is none, or two are made of the same.
        """
        labels = [label for parts in self.classes.values() for label in parts]
        if not self.classes or data.classes == list(self.classes):
            return data
        if len(self.classes) < 2 or not set(labels) <= set(data.classes):
            raise UserError(
                f"classify.classes: received {self.classes}",
                expected=f"two classes or more, made of {', '.join(data.classes)} (data.classes)",
            )
        if len(set(labels)) < len(labels):
            raise UserError("classify.classes: a label belongs to two of them")
        return data.model_copy(update={"classes": list(self.classes), "positive": None})

    def class_of(self, label: object) -> object:
        """Return the class that a label belongs to: itself, where none are named; None: to none."""
        if not self.classes or label is None:
            return label
        return next((name for name, parts in self.classes.items() if label in parts), None)
