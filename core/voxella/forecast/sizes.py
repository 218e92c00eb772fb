"""How much a recipe keeps: cases, memory of a GPU, files. Nothing is read but manifests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from voxella.cache.latent_writer import bytes_per_case
from voxella.cache.storage import TEXT_STORAGE
from voxella.case import Manifest
from voxella.recipe.classification import Classify
from voxella.recipe.inputs import Data, Latent, Prepare, Text
from voxella.recipe.sampling import Sample
from voxella.recipe.training import Train

__all__ = [
    "Cases",
    "classifier_steps",
    "count_cases",
    "sampled",
    "samples_bytes",
    "steps_of",
    "training_bytes",
    "voxels_of",
    "work_bytes",
]

# The CCELLA paper's: all cases, and those held out for the test.
_PAPER_ALL, _PAPER_TEST = 5811, 740
_FLOAT, _ADAM = 4, 8


@dataclass(frozen=True)
class Cases:
    """How many cases there are, and how that is known.

    Attributes:
        train: Of the training split.
        all: Of all splits.
        basis: In words.
    """

    train: int
    all: int
    basis: str


def count_cases(data: Data, asked: int | None) -> Cases:
    """Return the cases of a recipe's data: asked for, of its manifest, of its importer, or assumed.

    Raises:
        UserError: The data set that is named is not there.
    """
    if asked is not None:
        whole = round(asked * _PAPER_ALL / (_PAPER_ALL - _PAPER_TEST))
        return Cases(asked, whole, "as asked for; held out: the paper's share")
    if data.dataset is not None:
        manifest = Manifest.read(data.dataset)
        return Cases(len(manifest.split("train")), len(manifest), str(data.dataset))
    importer = data.importer
    made = None if importer is None else importer.arguments.get("cases")
    if isinstance(made, int):
        return Cases(max(1, round(0.75 * made)), made, "the importer's block, 3 of 4 to train on")
    return Cases(
        _PAPER_ALL - _PAPER_TEST, _PAPER_ALL, "ASSUMED: the paper's numbers; --cases N for others"
    )


def steps_of(length: Train, cases: int, batch: int) -> int:
    """Return the optimizer steps of a training over so many cases, ``batch`` at a step."""
    if length.steps is not None:
        return length.steps
    return math.ceil((length.epochs or 0) * cases / batch)


def classifier_steps(settings: Classify, cases: Cases, volumes: int) -> int:
    """Return the optimizer steps of a classifier's trainings, over all seeds and both halves."""
    batch = int(settings.deepspeed["train_batch_size"])
    sizes = {"real": cases.train, "synthetic": volumes, "both": cases.train + volumes}
    if settings.training_set == "synthetic_then_real":
        later = settings.finetune or settings.train
        steps = steps_of(settings.train, volumes, batch) + steps_of(later, cases.train, batch)
    else:
        steps = steps_of(settings.train, sizes[settings.training_set], batch)
    return steps * settings.seeds


def sampled(settings: Sample, cases: Cases, splits: Sequence[str] | None = None) -> int:
    """Return the volumes that sampling makes of the splits named; None: of its own."""
    wanted = settings.splits if splits is None else splits
    others = len(set(wanted) - {"train"})
    # How the rest falls to val and test is not known: half each, where both are sampled.
    held_out = max(1, math.ceil((cases.all - cases.train) / max(1, others)))
    of_splits = [cases.train if name == "train" else held_out for name in wanted]
    return sum(min(there, settings.count or there) for there in of_splits) * settings.per_case


def voxels_of(channels: int, prepare: Prepare) -> int:
    """Return the voxels of a case on the training grid, all its channels together."""
    return math.prod(prepare.size) * channels


def work_bytes(cases: Cases, voxels: int, latent: Latent, text: Text | None) -> dict[str, int]:
    """Return what the shared workspace takes at most: no image compressed, no report short.

    Args:
        cases: How many there are.
        voxels: Of a case.
        latent: What is cached of its image.
        text: What is cached of its report; None: nothing.
    """
    of_a_case = bytes_per_case(latent.dtype, (latent.channels, *latent.size))
    # Encoded as training goes, they are not kept.
    kept = int(latent.source == "cached")
    found = {
        "prepared": cases.all * voxels * _FLOAT,
        "latents": (cases.all + cases.train * latent.variations) * of_a_case * kept,
    }
    if text is not None:
        features = (text.max_tokens, text.width)
        found["text"] = cases.all * TEXT_STORAGE[text.dtype].nbytes(features)
    return found


def training_bytes(train: Train, parameters: int) -> int:
    """Return what a training keeps at most: checkpoints and the exported model."""
    average = 0 if train.ema_decay is None else _FLOAT
    # One more than is kept: a new checkpoint is whole before an old one goes.
    checkpoints = (train.keep_checkpoints + 1) * (_FLOAT + _ADAM + average)
    return parameters * (checkpoints + _FLOAT)


def samples_bytes(sample: Sample, volumes: int, voxels: int) -> int:
    """Return what so many generated volumes take at most."""
    return volumes * voxels * (2 if sample.int16_scale is not None else _FLOAT)
