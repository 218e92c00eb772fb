"""The recipe's ``deepspeed:`` block, checked before anything is built.

The block is DeepSpeed's own configuration in its own words. What the engine decides itself
(optimizer, learning rate) is refused there, with the place where it is said. The batch is the
global one; of micro batch and accumulation at most one is needed, the other follows.
"""

from __future__ import annotations

import difflib
from typing import Any

from voxella.errors import UserError

__all__ = ["autocast_dtype", "deepspeed_config", "zero_stage"]

_LEGAL = {
    "train_batch_size": "cases per optimizer step, over all processes",
    "train_micro_batch_size_per_gpu": "cases at a time; accumulation follows from it",
    "gradient_accumulation_steps": "micro batches per optimizer step",
    "gradient_clipping": "largest gradient norm",
    "zero_optimization": "ZeRO stage, offload, buckets",
    "torch_autocast": "mixed precision: {enabled, dtype}",
    "bf16": "whole model in bf16: {enabled}",
    "fp16": "whole model in fp16: {enabled}, CUDA only",
    "communication_data_type": "",
    "wall_clock_breakdown": "",
    "memory_breakdown": "",
    "flops_profiler": "",
    "comms_logger": "",
    "prescale_gradients": "",
    "gradient_predivide_factor": "",
    "zero_allow_untested_optimizer": "",
    "zero_force_ds_cpu_optimizer": "",
    "aio": "",
    "nebula": "",
    "dump_state": "",
    "steps_per_print": "",
}
_ELSEWHERE = {
    "optimizer": "the recipe's optimizer: block",
    "scheduler": "the recipe's optimizer: block (decay_power, warmup_steps)",
    "activation_checkpointing": "train.gradient_checkpointing",
    "tensorboard": "observers: [{name: tensorboard}]",
    "checkpoint": "train.checkpoint_every",
}

# The average is kept and put in place by partitions: under stage 3 nothing may lie elsewhere, as
# parameters do that DeepSpeed keeps whole, or a second time per host.
_PARTITIONED = {"stage3_param_persistence_threshold": 0, "zero_hpz_partition_size": 1}


def zero_stage(block: dict[str, Any]) -> int:
    """Return the ZeRO stage of a ``deepspeed:`` block; 0 when it names none."""
    zero = block.get("zero_optimization") or {}
    return int(zero.get("stage", 0))


def autocast_dtype(block: dict[str, Any]) -> str | None:
    """Return ``bfloat16`` or ``float16`` when the model computes in less than float32."""
    autocast = block.get("torch_autocast") or {}
    if autocast.get("enabled"):
        return str(autocast.get("dtype", "bfloat16")).removeprefix("torch.")
    for key, dtype in (("bf16", "bfloat16"), ("fp16", "float16")):
        if (block.get(key) or {}).get("enabled"):
            return dtype
    return None


def deepspeed_config(block: dict[str, Any], *, world: int, on_cpu: bool) -> dict[str, Any]:
    """Return the configuration for ``deepspeed.initialize``.

    Args:
        block: The recipe's block.
        world: Processes in the job.
        on_cpu: Whether the model lives on the CPU.

    Raises:
        UserError: Naming every problem of the block at once.
    """
    problems = _unknown_keys(block) + _sizes(block, world) + _precision(block, on_cpu)
    problems += _sharding(block)
    if problems:
        raise UserError(
            "deepspeed: block: " + "\n  ".join(problems),
            remedy="change the block, or --set deepspeed.KEY=VALUE",
        )
    if zero_stage(block) == 3:
        zero = {**_PARTITIONED, **block["zero_optimization"]}
        block = {**block, "zero_optimization": zero}
    micro, accumulation = _cut(block, world)
    config = {
        # Silence: progress and losses are the observers' work.
        "steps_per_print": 10**9,
        # Offloading would otherwise insist on DeepSpeed's own CPU Adam, which needs a compiler.
        "zero_force_ds_cpu_optimizer": False,
        **{key: value for key, value in block.items() if value is not None},
        "gradient_accumulation_steps": accumulation,
        "train_micro_batch_size_per_gpu": micro,
    }
    return config


def _unknown_keys(block: dict[str, Any]) -> list[str]:
    problems = []
    for key in block:
        if key in _ELSEWHERE:
            problems.append(f"{key} is not said here, but in {_ELSEWHERE[key]}")
        elif key not in _LEGAL:
            near = difflib.get_close_matches(key, _LEGAL, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; legal: {', '.join(_LEGAL)}"
            problems.append(f"unknown key {key}{hint}")
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
            problems.append(f"{key} is {value!r}; legal: a whole number, at least 1")
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


def _sharding(block: dict[str, Any]) -> list[str]:
    stage, zero = zero_stage(block), block.get("zero_optimization") or {}
    if stage not in (0, 1, 2, 3):
        return [f"zero_optimization.stage is {stage}; legal: 0, 1, 2, 3"]
    if stage < 3:
        return []
    problems = [
        f"zero_optimization.{key} is {zero[key]!r}; legal under stage 3: {value}, or left out"
        for key, value in _PARTITIONED.items()
        if zero.get(key, value) != value
    ]
    if (zero.get("offload_param") or {}).get("device") == "nvme":
        problems.append("zero_optimization.offload_param.device is nvme; legal: cpu, none")
    return problems


def _precision(block: dict[str, Any], on_cpu: bool) -> list[str]:
    enabled = [k for k in ("torch_autocast", "bf16", "fp16") if (block.get(k) or {}).get("enabled")]
    problems = []
    if len(enabled) > 1:
        problems.append(f"{' and '.join(enabled)} are both enabled; legal: one of them")
    if on_cpu and autocast_dtype(block) == "float16":
        problems.append(
            "fp16 needs a CUDA device; on the CPU leave precision out (fp32), or use "
            "torch_autocast: {enabled: true, dtype: bfloat16}"
        )
    return problems
