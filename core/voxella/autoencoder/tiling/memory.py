"""How much memory a pass needs, found without running it, and how much there is."""

from __future__ import annotations

import math
import os
import re
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["LiveBytes", "available_bytes", "pass_bytes"]

# What kernels take for themselves: 1.2 to 1.4 times the tensors were measured on the CPU (oneDNN's
# reordered copies), with MAISI's autoencoder and the small one.
_MARGIN = 1.6
_CGROUPS = Path("/sys/fs/cgroup")
# Limit, use, and the kernel's file cache within the use, by what the second field of a line in
# /proc/self/cgroup says: nothing in version 2, the controller's name in version 1.
_FILES = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": (
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}


def pass_bytes(
    work: Callable[[torch.Tensor], object], shape: Sequence[int], device: torch.device
) -> int:
    """Return what a pass without gradients takes at its peak, a margin for kernels included.

    The pass runs on tensors that have a shape and no content, so it takes no memory and next to no
    time whatever the size. The weights, which are there already, do not count.

    Args:
        work: The pass; its one argument is the input.
        shape: The input's.
        device: Where it would run.
    """
    live = LiveBytes()
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), live:
        work(torch.empty(tuple(shape), device=device))
    return math.ceil(_MARGIN * live.peak)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors alive inside it; views share their storage.

    Attributes:
        peak: The most that was alive at a time.
        now: What is.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.peak: int = 0
        self.now: int = 0
        self._ignored: list[torch.UntypedStorage] = []
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return out

    def ignore(self, tensors: Iterable[torch.Tensor]) -> None:
        """Leave out what was there before, such as weights."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            # Held, so that no other takes its place.
            self._ignored.append(storage)
            self._known[id(storage)] = weakref.ref(storage)

    def changed(self) -> None:
        """Do nothing; for those who follow more than the peak."""

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return
        self.now += size
        self.peak = max(self.peak, self.now)
        self.changed()

        def gone(_: object) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, gone)


def available_bytes(device: torch.device, *, shared: bool = True) -> float:
    """Return how much memory this process may still take; infinite where nobody knows.

    Args:
        device: Whose memory.
        shared: Whether the job's other processes on this host want as much of the host's memory.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Held by torch's allocator and in use by nobody.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(free + idle)
    # torchrun's name and DeepSpeed's for the processes of this host.
    beside = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)
    return min(_host_bytes(), _group_bytes()) / (beside if shared else 1)


def _host_bytes() -> float:
    try:
        known = Path("/proc/meminfo").read_text()
    except OSError:
        return math.inf
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", known, flags=re.MULTILINE)
    return 1024.0 * int(found[1]) if found else math.inf


def _group_bytes() -> float:
    """Return what the container's or the job's limit leaves; batch systems set one."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return math.inf
    left = math.inf
    for line in lines:
        _, controller, place = line.split(":", 2)
        if controller not in _FILES:
            continue
        mount, *files = _FILES[controller]
        root = _CGROUPS / mount
        folder = root / place.lstrip("/")
        groups = [g for g in (folder, *folder.parents) if g.is_relative_to(root)]
        left = min([left, *(_left(group, *files) for group in groups)])
    return left


def _left(group: Path, limit: str, use: str, cache: str) -> float:
    """Return what one group leaves; the file cache in its use is given back when it is needed."""
    try:
        told = (group / limit).read_text().strip()
        used = int((group / use).read_text())
        rows = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return math.inf  # inside a container the outer groups are not to be seen
    if told == "max":
        return math.inf
    given_back = next((int(row.split()[1]) for row in rows if row.startswith(f"{cache} ")), 0)
    return float(int(told) - used + given_back)
