"""DeepSpeed, brought up quietly and without a compiler on the CPU."""

from __future__ import annotations

import atexit
import logging
import os
import warnings
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

from voxella.engine.meeting import connect
from voxella.ranks import Ranks

__all__ = [
    "all_gather_object",
    "barrier",
    "broadcast_object",
    "collective_device",
    "gather_state",
    "gradient_norm",
    "initialize",
    "largest",
    "load_deepspeed",
    "start_distributed",
]

# Rank 0 may prepare data for hours while the others wait; a dead process ends the wait at once.
_PATIENCE = timedelta(days=30)
_T = TypeVar("_T")
_patient_group: list[torch.distributed.ProcessGroup] = []


def load_deepspeed(ranks: Ranks) -> ModuleType:
    """Import DeepSpeed, set up for this process's device.

    On the CPU, DeepSpeed would compile a shared-memory operator with g++ at the first start, for a
    minute, and fail without a compiler. Nothing here needs it: collectives run over gloo.
    """
    on_cpu = ranks.device.type == "cpu"
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        # Zero-initialised layers get gradients near 1e-19, whose squares are denormal numbers, on
        # which AdamW was measured twelve times slower. They are zero for every purpose.
        torch.set_flush_denormal(True)
    ranks.export()
    # DeepSpeed still calls collectives by the names that torch is about to rename.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(deepspeed|torch)\..*")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    import deepspeed
    import deepspeed.ops
    from deepspeed.utils import logger

    logger.setLevel(logging.WARNING)
    if on_cpu:
        deepspeed.ops.__compatible_ops__ = {}
    module: ModuleType = deepspeed
    return module


def initialize(
    ranks: Ranks,
    model: nn.Module,
    config: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> Any:  # noqa: ANN401 - a DeepSpeedEngine; the package ships no types
    """Wrap a model in a DeepSpeed engine: the one way to train, on one process as on many."""
    deepspeed = load_deepspeed(ranks)
    from deepspeed.runtime import torch_autocast

    start_distributed(ranks)
    if not torch.distributed.is_initialized():
        _connect(ranks)
    # DeepSpeed keeps in a global that an engine of this process has used autocast, and an engine
    # without it would pass over its own communication_data_type.
    torch_autocast.TORCH_AUTOCAST_INITIALIZED = False
    trained = [p for p in model.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=trained,
        optimizer=optimizer,
        lr_scheduler=schedule,
        config=config,
        dist_init_required=False,
    )
    # Only now: importing it imports DeepSpeed, whose device is settled above.
    from voxella.engine.checkpoint_engine import SafeCheckpointEngine

    engine.checkpoint_engine = SafeCheckpointEngine()
    whole = not (engine.zero_optimization() or engine.bfloat16_enabled())
    if ranks.world == 1 and whole and "communication_data_type" not in config:
        # It would copy every gradient into a buffer of 2 GB, sum that over one process, and back.
        engine.enable_backward_allreduce = False
    return engine


def start_distributed(ranks: Ranks) -> None:
    """Connect the processes of a launched job; alone, or connected already, do nothing."""
    if ranks.world == 1 or torch.distributed.is_initialized():
        return
    _connect(ranks)
    # Over gloo even beside GPUs: NCCL would spin and time out while rank 0 prepares data.
    _patient_group.append(torch.distributed.new_group(backend="gloo", timeout=_PATIENCE))
    # Left to the interpreter's end, a thread of gloo's may outlive its owner, which aborts a
    # process whose work is done.
    atexit.register(_disconnect)


def _connect(ranks: Ranks) -> None:
    deepspeed = load_deepspeed(ranks)
    if ranks.device.type == "cuda":
        torch.cuda.set_device(ranks.device)
    connect(ranks)
    # It finds the group made, and opens nothing of its own.
    deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), verbose=False)


def _disconnect() -> None:
    _patient_group.clear()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def barrier() -> None:
    """Wait for every process of the job, however long it takes."""
    if _patient_group:
        torch.distributed.barrier(group=_patient_group[0])


def collective_device() -> torch.device:
    """Return where a tensor must be for the job's collectives: NCCL takes a GPU's alone.

    What is offloaded lies on the host, and has to be brought there first.
    """
    if "nccl" in torch.distributed.get_backend():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def broadcast_object(value: _T) -> _T:
    """Return rank 0's value on every process; collective.

    For what is read off the disk and decides whether a process goes on: over a network the
    processes may see it at different times, and one that goes another way than the rest hangs all.
    """
    if not _patient_group:
        return value
    shared = [value]
    torch.distributed.broadcast_object_list(shared, src=0, group=_patient_group[0])
    return shared[0]


def largest(number: int) -> int:
    """Return the largest number that a process has, on every process; collective."""
    if not _patient_group:
        return number
    found = torch.tensor(number)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, group=_patient_group[0])
    return int(found)


def all_gather_object(value: _T) -> list[_T]:
    """Return every process's value, by rank, on every process; collective."""
    if not _patient_group:
        return [value]
    group = _patient_group[0]
    everyone: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(everyone, value, group=group)
    return everyone


def gradient_norm(engine: Any) -> float | None:  # noqa: ANN401 - DeepSpeed ships no types
    """Return the gradient norm before clipping where DeepSpeed does not measure it: stage 0, fp32.

    There whole gradients lie on the parameters once the last micro batch is through; the step
    clips and clears them.
    """
    if engine.zero_optimization() or engine.bfloat16_enabled():
        return None
    gradients = [p.grad for p in engine.module.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else None


def gather_state(
    module: nn.Module, *, keep: bool, whole: Callable[[nn.Parameter], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the whole state dict on the CPU in float32, whatever ZeRO stage shards it.

    Collective: every process enters. One parameter at a time is gathered, so the peak is one
    parameter and not the model.

    Args:
        module: The module inside the engine.
        keep: Whether this process wants the result (rank 0); others return an empty dict.
        whole: Returns all of a parameter: its float32 original or its average.
    """
    state: dict[str, torch.Tensor] = {}
    # With every name of a weight that is tied to another: loading expects them all.
    for name, parameter in module.named_parameters(remove_duplicate=False):
        value = whole(parameter)
        if keep:
            state[name] = value.detach().float().cpu().clone()
    if keep:
        persistent = module.state_dict(keep_vars=True)
        state |= {
            name: buffer.detach().cpu().clone()
            for name, buffer in module.named_buffers(remove_duplicate=False)
            if name in persistent
        }
    return state
