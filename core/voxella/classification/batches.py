"""From visits to batches of images, labels and motions, all functions of (seed, case, epoch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from voxella.classification.augment import Motion, draw, sampling_matrix
from voxella.classification.examples import Example
from voxella.classification.store import InputStore
from voxella.engine.order import Visit
from voxella.recipe.classification import Augment

__all__ = ["ImageBatch", "ImageMaker"]


@dataclass(frozen=True)
class ImageBatch:
    """Labelled images; ``B`` of them, ``K`` classes, ``n`` spatial axes.

    Attributes:
        case_ids: B ids, for messages.
        images: ``(B, C, *spatial)`` float32 in [0, 1], as stored.
        target: ``(B, K)`` one-hot.
        flip: ``(B,)`` bool; this and the next two are None where nothing is moved.
        resample: ``(B,)`` bool.
        matrices: ``(B, n, n + 1)``, see :func:`voxella.classification.augment.apply`.
    """

    case_ids: tuple[str, ...]
    images: Tensor
    target: Tensor
    flip: Tensor | None = None
    resample: Tensor | None = None
    matrices: Tensor | None = None

    def to(self, device: torch.device | str) -> ImageBatch:
        """Return the batch on another device."""
        moved: dict[str, Any] = {
            item.name: value.to(device, non_blocking=True)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class ImageMaker:
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
        self, visits: Sequence[Visit], *, global_visits: Sequence[Visit] | None = None
    ) -> ImageBatch:
        """Return the batch of ``visits``; every one weighs the same, whatever the others are."""
        examples = [self.cases[visit.case_id] for visit in visits]
        read = [self.store.read(example) for example in examples]
        targets = torch.tensor([example.target for example in examples])
        batch = ImageBatch(
            case_ids=tuple(visit.case_id for visit in visits),
            images=torch.stack([image for image, _ in read]),
            target=torch.nn.functional.one_hot(targets, len(self.classes)).float(),
        )
        if self.augment is None:
            return batch
        motions = [self._motion(self.augment, visit) for visit in visits]
        size = batch.images.shape[2:]
        return replace(
            batch,
            flip=torch.tensor([motion.flip for motion in motions]),
            resample=torch.tensor([motion.resamples for motion in motions]),
            matrices=torch.stack(
                [
                    sampling_matrix(motion, size, spacing_mm)
                    for motion, (_, spacing_mm) in zip(motions, read, strict=True)
                ]
            ),
        )

    def _motion(self, settings: Augment, visit: Visit) -> Motion:
        axes = len(self.store.settings.size)
        return draw(settings, axes, seed=self.seed, case_id=visit.case_id, epoch=visit.epoch)
