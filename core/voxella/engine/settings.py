"""The recipe's ``deepspeed:`` block, checked before anything is built.

The block is DeepSpeed's own configuration in its own words. What the engine decides itself
(optimizer, learning rate) is refused there, with the place where it is said. The batch is the
global one; of micro batch and accumulation at most one is needed, the other follows.
"""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any

from voxella.engine.precision import precision_problems, without_ours
from voxella.engine.sharding import sharding_problems, with_sharding
from voxella.errors import UserError
from voxella.wording import named, quoted

if TYPE_CHECKING:
    import torch

__all__ = ["deciding", "deepspeed_config"]

_EXPECTED = {
    "train_batch_size": "cases per optimizer step, over all processes",
    "train_micro_batch_size_per_gpu": "cases at a time; accumulation follows from it",
    "gradient_accumulation_steps": "micro batches per optimizer step",
    "gradient_clipping": "largest gradient norm; 0: any",
    "zero_optimization": "ZeRO stage, offload, buckets",
    "torch_autocast": "mixed precision: {enabled, dtype: bfloat16 or float16}",
    "bf16": "whole model in bf16: {enabled}",
    "zero_force_ds_cpu_optimizer": "false: the engine's own AdamW steps on the host too",
    "communication_data_type": "of gradients sent between processes: fp32, bf16",
    "wall_clock_breakdown": "print DeepSpeed's timers",
    "memory_breakdown": "print DeepSpeed's memory",
    "flops_profiler": "print DeepSpeed's profile of one step",
}
_ELSEWHERE = {
    "optimizer": "the recipe's optimizer: block",
    "scheduler": "the recipe's optimizer: block (decay_power, warmup_steps)",
    "activation_checkpointing": "train.gradient_checkpointing",
    "tensorboard": "observers: [{name: tensorboard}]",
    "checkpoint": "train.checkpoint_every",
    "steps_per_print": "train.log_every",
}
_DECIDES = ("train_batch_size", "gradient_clipping", "torch_autocast", "bf16", "fp16")
_PROFILER = ("enabled", "profile_step", "module_depth", "top_modules", "detailed")
_REFUSED = {
    "prescale_gradients": "gradients are summed in float32 or bfloat16, which do not overflow",
    "gradient_predivide_factor": "gradients are summed in float32 or bfloat16, which do not "
    "overflow",
    "zero_allow_untested_optimizer": "the optimizer is AdamW, which DeepSpeed has tested",
    "aio": "nothing is offloaded to a disk",
    "nebula": "DeepSpeed has removed it",
    "dump_state": "DeepSpeed's messages are switched off; voxella recipe show has the settings",
    "comms_logger": "DeepSpeed's messages are switched off",
}


def deepspeed_config(
    block: dict[str, Any], *, world: int, device: torch.device | None
) -> dict[str, Any]:
    """Return the configuration for ``deepspeed.initialize``.

    Args:
        block: The recipe's block.
        world: Processes in the job.
        device: Where the model will compute, which is asked whether it has the precision; None
            where that is not this machine.

    Raises:
        UserError: Naming every problem of the block at once.
    """
    problems = _keys(block) + _values(block) + _sizes(block, world)
    problems += precision_problems(block, device) + sharding_problems(block)
    if problems:
        raise UserError(
            "deepspeed: block: " + "\n  ".join(problems),
            remedy="change the block, or --set deepspeed.KEY=VALUE",
        )
    micro, accumulation = _cut(block, world)
    config = {
        # Silence: progress and losses are the observers' work.
        "steps_per_print": 10**9,
        # Offloading would otherwise insist on DeepSpeed's own CPU Adam, which needs a compiler.
        "zero_force_ds_cpu_optimizer": False,
        **{k: v for k, v in with_sharding(without_ours(block)).items() if v is not None},
        "gradient_accumulation_steps": accumulation,
        "train_micro_batch_size_per_gpu": micro,
    }
    return config


def deciding(block: dict[str, Any]) -> dict[str, Any]:
    """Return what of a block decides the trained weights, for a stage's record.

    How a step is cut and sharded does not decide what it learns; batch, clipping, precision do.
    """
    decides = {key: block.get(key) for key in _DECIDES}
    sent = block.get("communication_data_type")
    return decides if sent is None else {**decides, "communication_data_type": sent}


def _keys(block: dict[str, Any]) -> list[str]:
    problems = []
    for key, value in block.items():
        if value is None or key == "fp16":  # of which the precision tells more
            continue
        if key in _REFUSED:
            problems.append(f"{key} is not supported: {_REFUSED[key]}; expected: leave it out")
        elif key in _ELSEWHERE:
            problems.append(f"{key} is not said here, but in {_ELSEWHERE[key]}")
        elif key not in _EXPECTED:
            near = difflib.get_close_matches(key, _EXPECTED, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; expected: {', '.join(_EXPECTED)}"
            problems.append(f"unknown key {named(key)}{hint}")
    return problems


def _values(block: dict[str, Any]) -> list[str]:
    problems = []
    clipping = block.get("gradient_clipping")
    number = isinstance(clipping, (int, float)) and not isinstance(clipping, bool)
    if clipping is not None and not (number and 0 <= clipping < math.inf):
        problems.append(
            f"gradient_clipping is {quoted(clipping)}; expected: a number, 0 (none) and more"
        )
    if block.get("zero_force_ds_cpu_optimizer"):
        problems.append(
            "zero_force_ds_cpu_optimizer is not supported: it asks for DeepSpeed's own AdamW, "
            "which needs a compiler; torch's steps on the host as well; expected: false"
        )
    for key in ("wall_clock_breakdown", "memory_breakdown"):
        if not isinstance(block.get(key) or False, bool):
            problems.append(f"{key} is {quoted(block[key])}; expected: true, false")
    profiler = block.get("flops_profiler") or {}
    if not isinstance(profiler, dict) or set(profiler) - set(_PROFILER):
        problems.append(
            f"flops_profiler is {quoted(profiler)}; expected: {{{', '.join(_PROFILER)}}}"
        )
    return problems


def _cut(block: dict[str, Any], world: int) -> tuple[int, int]:
    """Return micro batch and accumulation steps; whichever is not given follows from the other."""
    batch = block["train_batch_size"]
    micro = block.get("train_micro_batch_size_per_gpu")
    accumulation = block.get("gradient_accumulation_steps")
    if accumulation is None:
        accumulation = 1 if micro is None else max(1, batch // (world * micro))
    return micro or max(1, batch // (world * accumulation)), accumulation


def _sizes(block: dict[str, Any], world: int) -> list[str]:
    problems = []
    for key in (
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
    ):
        value = block.get(key)
        optional = key != "train_batch_size" and value is None
        if not optional and (not isinstance(value, int) or value < 1):
            problems.append(f"{key} is {quoted(value)}; expected: a whole number, at least 1")
    if problems:
        return problems
    micro, accumulation = _cut(block, world)
    if block["train_batch_size"] != micro * world * accumulation:
        return [
            f"train_batch_size {block['train_batch_size']} does not divide among {world} processes "
            f"x {micro} cases a micro batch x {accumulation} accumulation steps = "
            f"{micro * world * accumulation}"
        ]
    return []
