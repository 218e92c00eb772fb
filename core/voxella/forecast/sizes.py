"""How much a recipe keeps: cases, memory of a GPU, files. Nothing is read but manifests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from voxella.cache.latent_writer import bytes_per_case
from voxella.cache.storage import TEXT_STORAGE
from voxella.case import Manifest
from voxella.engine.precision import autocast_dtype
from voxella.engine.settings import deepspeed_config
from voxella.engine.sharding import zero_stage
from voxella.recipe.classification import Classify
from voxella.recipe.model import Recipe
from voxella.recipe.training import Train

__all__ = [
    "Cases",
    "activation_bytes",
    "classifier_steps",
    "count_cases",
    "gpu_bytes",
    "run_bytes",
    "sampled",
    "steps_of",
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


def count_cases(recipe: Recipe, asked: int | None) -> Cases:
    """Return the cases of a recipe's data: asked for, of its manifest, of its importer, or assumed.

    Raises:
        UserError: The data set that the recipe names is not there.
    """
    if asked is not None:
        whole = round(asked * _PAPER_ALL / (_PAPER_ALL - _PAPER_TEST))
        return Cases(asked, whole, "as asked for; held out: the paper's share")
    if recipe.data.dataset is not None:
        manifest = Manifest.read(recipe.data.dataset)
        return Cases(len(manifest.split("train")), len(manifest), str(recipe.data.dataset))
    importer = recipe.data.importer
    made = None if importer is None else importer.arguments.get("cases")
    if isinstance(made, int):
        return Cases(max(1, round(0.75 * made)), made, "the importer's block, 3 of 4 to train on")
    return Cases(
        _PAPER_ALL - _PAPER_TEST, _PAPER_ALL, "ASSUMED: the paper's numbers; --cases N for others"
    )


def steps_of(recipe: Recipe, cases: Cases) -> int:
    """Return the optimizer steps of training."""
    return _steps(recipe.train, cases.train, int(recipe.deepspeed["train_batch_size"]))


def classifier_steps(settings: Classify, cases: Cases, volumes: int) -> int:
    """Return the optimizer steps of a classifier's trainings, over all seeds and both halves."""
    batch = int(settings.deepspeed["train_batch_size"])
    sizes = {"real": cases.train, "synthetic": volumes, "both": cases.train + volumes}
    if settings.training_set == "synthetic_then_real":
        later = settings.finetune or settings.train
        steps = _steps(settings.train, volumes, batch) + _steps(later, cases.train, batch)
    else:
        steps = _steps(settings.train, sizes[settings.training_set], batch)
    return steps * settings.seeds


def _steps(length: Train, cases: int, batch: int) -> int:
    if length.steps is not None:
        return length.steps
    return math.ceil((length.epochs or 0) * cases / batch)


def sampled(recipe: Recipe, cases: Cases, splits: Sequence[str] | None = None) -> int:
    """Return the volumes that sampling makes of the splits named; None: of the recipe's."""
    settings = recipe.sample
    wanted = settings.splits if splits is None else splits
    others = len(set(wanted) - {"train"})
    # How the rest falls to val and test is not known: half each, where both are sampled.
    held_out = max(1, math.ceil((cases.all - cases.train) / max(1, others)))
    of_splits = [cases.train if name == "train" else held_out for name in wanted]
    return sum(min(there, settings.count or there) for there in of_splits) * settings.per_case


def activation_bytes(block: dict[str, Any], of_a_case: int, processes: int) -> int:
    """Return the activations of one process's micro batch.

    Args:
        block: A ``deepspeed`` block; in reduced precision an activation takes half the bytes, which
            is nearly so (normalisation and the loss stay in float32).
        of_a_case: Of one case in float32.
        processes: In the job.

    Raises:
        UserError: The batch cannot be cut among so many.
    """
    config = deepspeed_config(block, world=processes, device=None)
    reduced = autocast_dtype(block) is not None
    return int(config["train_micro_batch_size_per_gpu"]) * of_a_case // (2 if reduced else 1)


def gpu_bytes(recipe: Recipe, parameters: int, processes: int) -> int:
    """Return what one process holds of a model in training: weights and all that goes with them.

    Weights and gradients in float32, or in two bytes beside float32 originals where the whole model
    is cast; Adam's two moments; the average. ZeRO 1 spreads the optimizer, 2 the gradients as well,
    3 everything. What is offloaded is on the host.
    """
    stage, block = zero_stage(recipe.deepspeed), recipe.deepspeed
    cast = (block.get("bf16") or {}).get("enabled", False)
    width = 2 if cast else _FLOAT
    zero = block.get("zero_optimization") or {}
    offloaded = (zero.get("offload_optimizer") or {}).get("device") == "cpu"
    states = 0 if offloaded else _ADAM + (_FLOAT if cast else 0)
    average = 0 if recipe.train.ema_decay is None else _FLOAT
    share = {name: processes if stage >= least else 1 for name, least in _SPREAD.items()}
    per_parameter = (
        width / share["weights"]
        + width / share["gradients"]
        + states / share["optimizer"]
        + average / share["weights"]
    )
    return round(parameters * per_parameter)


# Part of a training's memory -> the ZeRO stage from which processes share it.
_SPREAD = {"optimizer": 1, "gradients": 2, "weights": 3}


def work_bytes(recipe: Recipe, cases: Cases) -> dict[str, int]:
    """Return what the shared workspace takes at most: no image compressed, no report short."""
    voxels = math.prod(recipe.prepare.size) * len(recipe.data.sequences)
    latent = bytes_per_case(recipe.latent.dtype, (recipe.latent.channels, *recipe.latent.size))
    stored = cases.all + cases.train * recipe.latent.variations
    found = {"prepared": cases.all * voxels * _FLOAT, "latents": stored * latent}
    if recipe.text is not None:
        features = (recipe.text.max_tokens, recipe.text.width)
        found["text"] = cases.all * TEXT_STORAGE[recipe.text.dtype].nbytes(features)
    return found


def run_bytes(recipe: Recipe, parameters: int, volumes: int) -> int:
    """Return what one run takes at most: checkpoints, the exported model, volumes."""
    voxels = math.prod(recipe.prepare.size) * len(recipe.data.sequences)
    stored = 2 if recipe.sample.int16_scale is not None else _FLOAT
    average = 0 if recipe.train.ema_decay is None else _FLOAT
    # One more than is kept: a new checkpoint is whole before an old one goes.
    checkpoints = (recipe.train.keep_checkpoints + 1) * (_FLOAT + _ADAM + average)
    return parameters * (checkpoints + _FLOAT) + volumes * voxels * stored
