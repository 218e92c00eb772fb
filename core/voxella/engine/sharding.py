"""The ``zero_optimization:`` part of a ``deepspeed:`` block: what is passed on, what is refused.

Every key that is passed on was compared with plain training: the same weights, on one process and
on two (``tests/test_engine_sharding.py``). The others change what is learnt, need an optimizer, a
disk or a compiler that is not there, or do nothing here.
"""

from __future__ import annotations

import difflib
from typing import Any

from voxella.wording import named, quoted

__all__ = ["offloads", "sharding_problems", "with_sharding", "zero_stage"]

_SWITCHES = (
    "contiguous_gradients",
    "reduce_scatter",
    "use_multi_rank_bucket_allreduce",
    "allgather_partitions",
    "overlap_comm",
    "ignore_unused_parameters",
    "round_robin_gradients",
    "parameter_alignment",
    "memory_efficient_linear",
    "enable_sanity_checks",
    "stage3_use_all_reduce_for_fetch_params",
    "stage3_allgather_sequential",
    "stage3_gather_16bit_weights_on_model_save",
)
_SIZES = (
    "reduce_bucket_size",
    "allgather_bucket_size",
    "sub_group_size",
    "stage3_prefetch_bucket_size",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_param_persistence_threshold",
    "zero_hpz_partition_size",
)
_OFFLOADS = {"offload_optimizer": (1, 2, 3), "offload_param": (3,)}
_REFUSED = {
    "compute_grad_norm": "the norm decides whether a step counts",
    "load_from_fp32_weights": "a resumed run would go on from rounded weights",
    "elastic_checkpoint": "checkpoints are continued by the same number of processes",
    "zenflow": "it trains with stale gradients",
    "zero_quantized_weights": "it rounds weights to 8 bits",
    "zero_quantized_nontrainable_weights": "it rounds weights to 8 bits",
    "zero_quantized_gradients": "it rounds gradients to 4 bits",
    "legacy_stage1": "DeepSpeed has removed it",
    "cpu_offload": "it is written offload_optimizer: {device: cpu} now",
    "cpu_offload_param": "it is written offload_param: {device: cpu} now",
    "cpu_offload_use_pin_memory": "it is written offload_optimizer: {pin_memory: ...} now",
    "stage3_model_persistence_threshold": "no weight is kept whole",
    "stage3_module_granularity_threshold": "it is not tested here",
    "leaf_module": "it is not tested here",
    "log_trace_cache_warnings": "DeepSpeed's messages are switched off",
    "pipeline_loading_checkpoint": "there are no pipelines",
    "override_module_apply": "models are built before they are cut",
    "save_muon_momentum_buffer_in_memory": "the optimizer is AdamW",
}
# The average is kept and put in place by partitions: under stage 3 nothing may lie elsewhere, as
# parameters do that DeepSpeed keeps whole, or a second time per host.
_PARTITIONED = {"stage3_param_persistence_threshold": 0, "zero_hpz_partition_size": 1}


def zero_stage(block: dict[str, Any]) -> int:
    """Return the ZeRO stage of a ``deepspeed:`` block; 0 when it names none."""
    zero = block.get("zero_optimization") or {}
    return int(zero.get("stage", 0))


def offloads(block: dict[str, Any]) -> bool:
    """Return whether a ``deepspeed:`` block keeps something of the model on the host."""
    zero = block.get("zero_optimization") or {}
    return any((zero.get(key) or {}).get("device") == "cpu" for key in _OFFLOADS)


def with_sharding(block: dict[str, Any]) -> dict[str, Any]:
    """Return a checked block with what stage 3 needs."""
    if zero_stage(block) < 3:
        return block
    return {**block, "zero_optimization": {**_PARTITIONED, **block["zero_optimization"]}}


def sharding_problems(block: dict[str, Any]) -> list[str]:
    """Return what is wrong with ``zero_optimization`` of a block."""
    zero = block.get("zero_optimization") or {}
    if not isinstance(zero, dict):
        return [f"zero_optimization is {quoted(zero)}; expected: {{stage: 0, 1, 2 or 3, ...}}"]
    stage = zero.get("stage", 0)
    if isinstance(stage, bool) or stage not in (0, 1, 2, 3):
        return [f"zero_optimization.stage is {quoted(stage)}; expected: 0, 1, 2, 3"]
    problems = []
    for key, value in zero.items():
        problem = _of_key(key, value, stage)
        problems += [] if problem is None else [f"zero_optimization.{problem}"]
    return problems


def _of_key(key: str, value: object, stage: int) -> str | None:
    if key in _REFUSED:
        return f"{key} is not supported: {_REFUSED[key]}; expected: leave it out"
    if key in _OFFLOADS:
        return _of_offload(key, value, stage)
    if key in _SWITCHES:
        return (
            None if isinstance(value, bool) else f"{key} is {quoted(value)}; expected: true, false"
        )
    if key in _SIZES:
        return _of_size(key, value, stage)
    if key == "stage":
        return None
    known = [*_SWITCHES, *_SIZES, *_OFFLOADS, "stage"]
    near = difflib.get_close_matches(key, known, n=1)
    return f"{named(key)} is unknown; " + (
        f"did you mean {near[0]}?" if near else f"expected: {known}"
    )


def _of_size(key: str, value: object, stage: int) -> str | None:
    # YAML reads 5e8 as a number with a point.
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value)
    if not whole or value < 0:  # type: ignore[operator]  # whole says that it is a number
        return f"{key} is {quoted(value)}; expected: a whole number, 0 and more"
    if stage == 3 and value != _PARTITIONED.get(key, value):
        return f"{key} is {quoted(value)}; expected under stage 3: {_PARTITIONED[key]}, or left out"
    return None


def _of_offload(key: str, value: object, stage: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        return f"{key} is {quoted(value)}; expected: {{device: cpu}}"
    device = value.get("device", "none")
    if device not in ("cpu", "none"):
        return f"{key}.device is {quoted(device)}; expected: cpu, none"
    unknown = sorted(set(value) - {"device", "pin_memory"})
    if unknown:
        return f"{key}.{named(unknown[0])} is not supported; expected: device, pin_memory"
    if not isinstance(value.get("pin_memory", True), bool):
        return f"{key}.pin_memory is {quoted(value['pin_memory'])}; expected: true, false"
    stages = _OFFLOADS[key]
    if device == "cpu" and stage not in stages:
        return f"{key} needs stage {' or '.join(map(str, stages))}; stage is {stage}"
    return None
