"""One cell of bench/scaling.py, in a process of its own: some training steps, and their memory.

    python bench/scaling_cell.py RECIPE STEPS A.B=C ...

Prints one line of JSON. Memory is told twice: what torch's allocator had out at its peak, which is
what a plan forecasts, and how much the process grew (its resident set), which has the allocator's
gaps and the kernels' workspaces in it.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch
from benchmark import random_batch
from torch import nn

import voxella
from voxella.engine.ema import Ema, Masters
from voxella.engine.optimizer import build_optimizer
from voxella.engine.runtime import initialize
from voxella.engine.settings import deepspeed_config
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe

__all__ = ["allocator_peak", "measure"]


def main() -> None:
    """Measure and print."""
    path, steps, *overrides = sys.argv[1:]
    print(json.dumps(measure(voxella.load_recipe(path, overrides=overrides), int(steps))))
    sys.stdout.flush()
    # Processes of a job that end one after the other complain about each other.
    os._exit(0)


def measure(recipe: Recipe, steps: int) -> dict[str, Any]:
    """Return CPU seconds of a step, of a forward pass without gradients, and bytes at the peak."""
    ranks = Ranks.from_environment()
    config = deepspeed_config(copy.deepcopy(recipe.deepspeed), world=ranks.world, device=None)
    micro = int(config["train_micro_batch_size_per_gpu"])
    batch = random_batch(recipe, micro, ranks.device)
    before = _kilobytes("VmRSS")
    model = voxella.build_model(recipe).to(ranks.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer, schedule = build_optimizer(parameters, recipe.optimizer, total_steps=10**6)
    engine = initialize(ranks, model, config, optimizer, schedule)
    decay = recipe.train.ema_decay
    ema = None if decay is None else Ema(engine.module, Masters(engine), decay)

    def step() -> None:
        for _ in range(config["gradient_accumulation_steps"]):
            engine.backward(engine(batch)["total"])
            engine.step()
        if ema is not None:
            ema.update()

    engine.train()
    step()  # Adam's moments and the kernels' primitives are there from now on.
    seconds = []
    for _ in range(steps):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    grown = (_kilobytes("VmHWM") - before) * 1024
    held = _held_bytes(engine, ema)
    peak = held + allocator_peak(step)
    engine.eval()
    with torch.no_grad():
        start = time.process_time()
        engine(batch)
        forward = time.process_time() - start
    return {
        "parameters": sum(p.numel() for p in parameters),
        "cpu_seconds_a_step": round(sorted(seconds)[len(seconds) // 2], 3),
        "cpu_seconds_forward": round(forward, 3),
        "allocator_bytes": peak,
        "resident_bytes": grown,
    }


def allocator_peak(work: Any) -> int:  # noqa: ANN401 - anything that can be called
    """Return the most that torch's CPU allocator had out during a call, beyond what it had."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        work()
    results = profile.profiler.kineto_results
    found: list[tuple[int, int, int]] = []
    waiting = list(results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.typed[0] == torch._C._profiler._EventType.Allocation:
            told = event.typed[1]
            found.append((event.start_time_ns, told.total_allocated, told.alloc_size))
    found.sort()
    first = found[0][1] - found[0][2]
    return max(0, max(total for _, total, _ in found) - first)


def _held_bytes(engine: Any, ema: Ema | None) -> int:  # noqa: ANN401 - DeepSpeed ships no types
    """Return the bytes of all tensors between two steps: every storage once."""
    tensors: list[torch.Tensor] = [*engine.module.parameters(), *engine.module.buffers()]
    tensors += [p.ds_tensor for p in engine.module.parameters() if hasattr(p, "ds_tensor")]
    tensors += [] if ema is None else ema.shadow
    wrapped = engine.optimizer
    inner = getattr(wrapped, "optimizer", wrapped)
    for state in inner.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    tensors += [p for group in inner.param_groups for p in group["params"]]
    tensors += list(_tensors_of(wrapped))
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _tensors_of(optimizer: object) -> list[torch.Tensor]:
    """Return the flat tensors that a DeepSpeed optimizer holds as attributes, in lists or alone."""
    found: list[torch.Tensor] = []
    if isinstance(optimizer, torch.optim.Optimizer):
        return found
    waiting = list(vars(optimizer).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
            found.append(value)
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
    return found


def _kilobytes(name: str) -> int:
    told = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert told is not None, "Linux tells it"
    return int(told[1])


if __name__ == "__main__":
    main()
