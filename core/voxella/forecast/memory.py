"""How much memory one process's training takes: closed forms for what stays, a count for the rest.

What stays are weights, gradients, Adam's moments, the average: the formulas of the ZeRO paper
(arXiv:1910.02054, section 5) and of DeepSpeed's ``estimate_zero2_model_states_mem_needs``, with
float32 weights under autocast. What comes and goes are activations, counted by
:mod:`voxella.forecast.live`, and DeepSpeed's buffers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from voxella.engine.precision import autocast_dtype
from voxella.engine.settings import deepspeed_config
from voxella.engine.sharding import zero_stage
from voxella.forecast.flops import Counted
from voxella.forecast.live import StepMemory
from voxella.recipe.training import Train

__all__ = [
    "States",
    "largest_micro_batch",
    "peak_bytes",
    "states",
    "training_memory",
    "with_micro_batch",
]

_FLOAT, _ADAM = 4, 8
# Part of a training's memory -> the ZeRO stage from which processes share it.
_SPREAD = {"optimizer": 1, "gradients": 2, "weights": 3}
# DeepSpeed 0.19's own numbers: elements of a bucket, and weights that stage 3 leaves gathered and
# gathers ahead.
_BUCKET, _LIVE, _AHEAD = 500_000_000, 1_000_000_000, 50_000_000


@dataclass(frozen=True)
class States:
    """Bytes on the device of one process.

    Attributes:
        weights: As the process keeps them.
        gradients: The same.
        optimizer: Moments, and the float32 originals that DeepSpeed steps on.
        average: Of the weights.
        host: Bytes of the process in host memory, offloaded.
        step_gradients: Float32 gradients of the process's share, there only while it steps.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    host: int
    step_gradients: int

    @property
    def all(self) -> int:
        """Return the bytes on the device together."""
        return self.weights + self.gradients + self.optimizer + self.average


def states(block: dict[str, Any], parameters: int, processes: int, *, averaged: bool) -> States:
    """Return what one process holds of a model in training: weights and all that goes with them.

    Weights and gradients in float32, or in two bytes where the whole model is cast; Adam's two
    moments; from stage 1 on, and where the model is cast, DeepSpeed's own float32 copy of the
    weights (of float32 weights, too); the average. ZeRO 1 spreads the optimizer, 2 the gradients as
    well, 3 everything.

    Args:
        block: A ``deepspeed`` block.
        parameters: Trained numbers.
        processes: That share the model.
        averaged: Whether an average of the weights is kept.
    """
    stage = zero_stage(block)
    cast = (block.get("bf16") or {}).get("enabled", False)
    width = 2 if cast else _FLOAT
    share = {name: processes if stage >= least else 1 for name, least in _SPREAD.items()}
    own = cast or stage > 0
    optimizer = parameters * (_ADAM + (_FLOAT if own else 0)) // share["optimizer"]
    weights = parameters * width // share["weights"]
    off, off_weights = _offloaded(block, "offload_optimizer"), _offloaded(block, "offload_param")
    step = parameters * _FLOAT // share["optimizer"] if own else 0
    return States(
        weights=0 if off_weights else weights,
        gradients=parameters * width // share["gradients"],
        optimizer=0 if off else optimizer,
        average=parameters * _FLOAT // share["weights"] if averaged else 0,
        host=(optimizer + step if off else 0) + (weights if off_weights else 0),
        step_gradients=0 if off else step,
    )


def peak_bytes(
    block: dict[str, Any], parameters: int, processes: int, step: StepMemory, *, averaged: bool
) -> int:
    """Return the most that one process's tensors take on the device, in any part of a step.

    Args:
        block: A ``deepspeed`` block; its micro batch counts.
        parameters: Trained numbers.
        processes: That share the model.
        step: Activations, as they are with or without checkpointing.
        averaged: Whether an average of the weights is kept.

    Raises:
        UserError: The batch cannot be cut among so many.
    """
    config = deepspeed_config(block, world=processes, device=None)
    micro = int(config["train_micro_batch_size_per_gpu"])
    held = states(block, parameters, processes, averaged=averaged)
    kept = held.weights + held.optimizer + held.average
    alone, joint = (fixed + micro * slope for fixed, slope in (step.alone, step.with_gradients))
    buffers = _buffer_bytes(block, parameters)
    if zero_stage(block) >= 1:
        backward = held.gradients + alone + buffers
    elif config["gradient_accumulation_steps"] > 1:
        # Whole gradients lie there while the next micro batch runs.
        backward = held.gradients + alone
    else:
        # Gradients come while activations go; of many cases the latter are the more.
        backward = max(joint, alone)
    # Gradients are sent, or copied for the optimizer, once the activations are gone.
    after = held.gradients + max(buffers, held.step_gradients)
    return kept + max(backward, after)


def training_memory(
    train: Train,
    block: dict[str, Any],
    counted: Counted | None,
    step: StepMemory | None,
    processes: int,
) -> int | None:
    """Return the peak of a training as its blocks say; None where it cannot be known.

    Args:
        train: Says whether an average is kept.
        block: The ``deepspeed`` block.
        counted: The network; None: it cannot be built without memory.
        step: Its activations; None: what autograd keeps of a case, as counted, in two bytes for
            four where precision is reduced, beside all gradients.
        processes: In the job.
    """
    if counted is None:
        return None
    if step is None:
        case = counted.activations // (1 if autocast_dtype(block) is None else 2)
        step = StepMemory((0, case), (_FLOAT * counted.parameters, case))
    averaged = train.ema_decay is not None
    return peak_bytes(block, counted.parameters, processes, step, averaged=averaged)


def largest_micro_batch(
    block: dict[str, Any],
    parameters: int,
    processes: int,
    step: StepMemory,
    usable: int,
    *,
    averaged: bool,
) -> int | None:
    """Return the most cases at a time that fit and divide the batch; None where not one does.

    Arguments as of :func:`peak_bytes`, and ``usable``: bytes that tensors can fill.
    """
    batch = int(block["train_batch_size"])
    if batch % processes:
        return None
    own = batch // processes
    for micro in range(own, 0, -1):
        if own % micro:
            continue
        cut = with_micro_batch(block, micro)
        if peak_bytes(cut, parameters, processes, step, averaged=averaged) <= usable:
            return micro
    return None


def with_micro_batch(block: dict[str, Any], micro: int) -> dict[str, Any]:
    """Return a block with so many cases at a time; accumulation follows from it."""
    cut = {**block, "train_micro_batch_size_per_gpu": micro}
    cut.pop("gradient_accumulation_steps", None)
    return cut


def _buffer_bytes(block: dict[str, Any], parameters: int) -> int:
    """Return DeepSpeed's buffers: gradients on their way, weights that are gathered."""
    zero = block.get("zero_optimization") or {}
    stage = zero_stage(block)
    width = 2 if (block.get("bf16") or {}).get("enabled", False) else _FLOAT
    bucket = int(zero.get("reduce_bucket_size", _BUCKET))
    if stage == 0:
        # A flat copy of gradients; of these buckets nobody sets the size.
        return width * min(parameters, _BUCKET)
    # Allocated whole, whatever the model's size; a second one where sending overlaps.
    double = stage < 3 and bool(zero.get("overlap_comm"))
    buffers = width * bucket * (2 if double else 1)
    if stage < 3:
        return buffers
    # Weights are gathered into one tensor first and copied out of it.
    live = min(parameters, int(zero.get("stage3_max_live_parameters", _LIVE)))
    ahead = min(parameters, int(zero.get("stage3_prefetch_bucket_size", _AHEAD)))
    return buffers + width * (live + ahead)


def _offloaded(block: dict[str, Any], what: str) -> bool:
    zero = block.get("zero_optimization") or {}
    return (zero.get(what) or {}).get("device") == "cpu"
