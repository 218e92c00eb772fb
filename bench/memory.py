"""What this process holds and has held at most, and what a step saves for its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["peak_gib", "reset_peak", "resident_gib", "saved_gib"]


def resident_gib(device: torch.device) -> float:
    """Return what is held now; on the CPU by all of the process, its libraries too."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**30
    return _status("VmRSS")


def peak_gib(device: torch.device) -> float:
    """Return the most that was held since :func:`reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return _status("VmHWM")


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far: what building and warming up took."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # where the kernel does not allow it the peak is of all


def saved_gib(work: Callable[[], object]) -> float:
    """Return the activations that one step saves: what its backward pass reads, but for weights."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        leaf = tensor.requires_grad and tensor.is_leaf
        if not leaf and not isinstance(tensor._base, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    return sum(storages.values()) / 2**30


def _status(name: str) -> float:
    words = Path("/proc/self/status").read_text().split(f"{name}:")[1].split()
    return int(words[0]) / 2**20
