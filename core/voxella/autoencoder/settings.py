"""The ``autoencoder_training`` block as the engine's settings."""

from __future__ import annotations

from typing import Any

from voxella.engine.precision import lacks
from voxella.engine.settings import deepspeed_config
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.ranks import Ranks
from voxella.recipe.model import AutoencoderTraining, Optimizer, Train

__all__ = [
    "check_files",
    "check_settings",
    "deciding_settings",
    "engine_block",
    "key_in_recipe",
    "length",
    "optimizer",
]

CLIP_NORM = 1.0
# Keys that came after the first release: they decide nothing as long as they are not used, so that
# an autoencoder trained before is up to date.
_LATER = {"ema_decay", "checkpoint_every", "panel_every", "validate_every", "deepspeed"}
_ELSEWHERE = {
    "train_batch_size": "autoencoder_training.batch_size",
    **dict.fromkeys(("torch_autocast", "bf16", "fp16"), "autoencoder_training.precision"),
}


def check_settings(training: AutoencoderTraining, ranks: Ranks) -> None:
    """Refuse a precision or a ``deepspeed:`` block that does not work here.

    Raises:
        UserError: Naming what is wrong.
    """
    name = lacks(ranks.device, "bfloat16") if training.precision == "bf16" else None
    if name is not None:
        raise UserError(
            f"autoencoder_training.precision is bf16, which {name} cannot compute in",
            remedy="--set autoencoder_training.precision=fp32",
        )
    for key, place in _ELSEWHERE.items():
        if training.deepspeed.get(key) is not None:
            raise UserError(
                f"autoencoder_training.deepspeed: {key} is not said here, but in {place}",
                remedy=f"leave it out, and --set {place}=...",
            )
    try:
        deepspeed_config(engine_block(training, ranks.world), world=ranks.world, device=None)
    except UserError as error:
        raise UserError(
            f"autoencoder_training.{error.problem}",
            remedy="change the block, or --set autoencoder_training.deepspeed.KEY=VALUE",
        ) from None


def check_files(training: AutoencoderTraining) -> None:
    """Refuse a perceptual term whose networks are not there.

    Raises:
        UserError: Naming every absent file.
    """
    absent = [
        f"autoencoder_training.perceptual.{key}: {path} does not exist"
        for key in ("vgg16", "heads")
        if training.perceptual is not None
        and not (path := getattr(training.perceptual, key)).is_file()
    ]
    if absent:
        raise UserError(
            "\n".join(absent),
            remedy="--set KEY=PATH for each; or go on without: "
            "--set autoencoder_training.perceptual=null",
        )


def engine_block(training: AutoencoderTraining, world: int) -> dict[str, Any]:
    """Return the ``deepspeed:`` block for a number of processes.

    The batch that DeepSpeed is told is rounded up to what divides among the processes: it only
    counts with it. Which cases a process sees, and how they weigh, is the order's to say.
    """
    block: dict[str, Any] = {"gradient_clipping": CLIP_NORM, **training.deepspeed}
    micro = block.get("train_micro_batch_size_per_gpu")
    accumulation = block.get("gradient_accumulation_steps")
    if not all(value is None or _counts(value) for value in (micro, accumulation)):
        return {**block, "train_batch_size": training.batch_size}  # which is refused in its words
    if accumulation is None:
        accumulation = 1 if micro is None else -(-training.batch_size // (world * micro))
    if micro is None:
        micro = -(-training.batch_size // (world * accumulation))
    return {
        **block,
        "train_batch_size": micro * accumulation * world,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
    }


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def optimizer(training: AutoencoderTraining) -> Optimizer:
    """Return AdamW without decay; the learning rate's course is the order's."""
    return Optimizer(lr=training.lr, betas=training.betas, weight_decay=0.0)


def length(training: AutoencoderTraining, kept: int) -> Train:
    """Return length and bookkeeping, ``kept`` checkpoints at a time."""
    return Train(
        steps=training.steps,
        ema_decay=training.ema_decay,
        checkpoint_every=training.checkpoint_every,
        keep_checkpoints=kept,
        log_every=training.log_every,
        panel_every=training.panel_every,
        validate_every=training.validate_every,
    )


def key_in_recipe(key: str) -> str:
    """Return what a recipe calls a key of what a training was begun with."""
    return f"autoencoder_{key}" if key.startswith("training.") else key


def deciding_settings(training: AutoencoderTraining) -> dict[str, Any]:
    """Return what decides the trained weights, and how they are logged, as JSON-ready data.

    Files are told by their content: where they lie decides nothing.
    """
    found = training.model_dump(mode="json", exclude=_LATER)
    if (seen := training.perceptual) is not None:
        hashes = [sha256_file(path) for path in (seen.vgg16, seen.heads)]
        found["perceptual"] = {"weight": seen.weight, "sha256": hashes}
    if training.ema_decay is not None:
        found["ema_decay"] = training.ema_decay
    clipping = training.deepspeed.get("gradient_clipping")
    if clipping is not None and clipping != CLIP_NORM:
        found["gradient_clipping"] = clipping
    if (sent := training.deepspeed.get("communication_data_type")) is not None:
        found["communication_data_type"] = sent
    return found
