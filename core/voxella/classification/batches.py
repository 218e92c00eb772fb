"""From sample keys to batches of images and labels, all functions of (seed, case, epoch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from voxella.classification.examples import Example
from voxella.classification.store import InputStore
from voxella.engine.order import SampleKey
from voxella.imaging.augment import augmented, draw
from voxella.recipe.augment import Augment

__all__ = ["ImageBatch", "ImageBatchBuilder"]


@dataclass(frozen=True)
class ImageBatch:
    """Labelled images; ``B`` of them, ``K`` classes, ``n`` spatial axes.

    Attributes:
        case_ids: B ids, for messages.
        images: ``(B, C, *spatial)`` float32 in [0, 1], as stored, or changed at random.
        target: ``(B, K)`` one-hot.
    """

    case_ids: tuple[str, ...]
    images: Tensor
    target: Tensor

    def to(self, device: torch.device | str) -> ImageBatch:
        """Return the batch on another device."""
        moved: dict[str, Any] = {
            item.name: value.to(device, non_blocking=True)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class ImageBatchBuilder:
    """Makes an :class:`ImageBatch` of visits. Any process makes the same batch.

    Attributes:
        cases: Examples by id.
        store: Their inputs.
        classes: Names, in order.
        positive: The positive one; None: each stands against the rest.
        seed: Of the training.
        augment: Random changes; None: none, for validation.
    """

    cases: Mapping[str, Example]
    store: InputStore
    classes: Sequence[str]
    positive: str | None
    seed: int
    augment: Augment | None = None

    def make(
        self, keys: Sequence[SampleKey], *, global_keys: Sequence[SampleKey] | None = None
    ) -> ImageBatch:
        """Return the batch of ``keys``; every one weighs the same, whatever the others are."""
        examples = [self.cases[key.case_id] for key in keys]
        targets = torch.tensor([example.target for example in examples])
        images = [self._image(e, key) for e, key in zip(examples, keys, strict=True)]
        return ImageBatch(
            case_ids=tuple(key.case_id for key in keys),
            images=torch.stack(images),
            target=torch.nn.functional.one_hot(targets, len(self.classes)).float(),
        )

    def _image(self, example: Example, key: SampleKey) -> Tensor:
        image, spacing_mm = self.store.read(example)
        if self.augment is None:
            return image
        case, epoch = key.case_id, key.epoch
        change = draw(self.augment, image.ndim - 1, seed=self.seed, case_id=case, epoch=epoch)
        return augmented(image, change, spacing_mm.tolist())
