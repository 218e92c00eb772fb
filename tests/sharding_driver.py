"""Trains a tiny network under many ``deepspeed:`` blocks in one job, for test_engine_sharding.py.

    python sharding_driver.py FOLDER

Reads FOLDER/plans.json, ``{name: {block, spoilt, resume}}``, and writes FOLDER/found.pt: by
name the exported weights, the exported average, the average as it is put in place, and the log.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tiny_run import tiny_recipe
from torch import Tensor, nn

from voxella.classification.best_checkpoint import _present
from voxella.engine import precision
from voxella.engine.checkpoints import Checkpoints, Provenance
from voxella.engine.ema import Masters
from voxella.engine.order import SampleKey
from voxella.engine.runtime import barrier, gather_state, start_distributed
from voxella.engine.sharding import zero_stage
from voxella.engine.train import Training, train_loop
from voxella.observers.dispatch import ObserverSet
from voxella.ranks import Ranks
from voxella.recipe.model import Optimizer, Train

BATCH, STEPS, SEED = 4, 6, 1
CASES = tuple(str(case) for case in range(8 * BATCH))
HELD_OUT = ("1001", "1002")
RECIPE = tiny_recipe()


class _Spoilt(torch.autograd.Function):
    """Passes values on and makes their gradient infinite: an overflow on the way back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * float("inf")


@dataclass(frozen=True)
class Batch:
    """Cases and their numbers."""

    case_ids: tuple[str, ...]
    values: Tensor
    spoilt: bool

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.case_ids, self.values.to(device), self.spoilt)


@dataclass(frozen=True)
class Builder:
    """Draws each case's numbers from its name."""

    spoilt: list[str]
    cases: Mapping[str, Any]

    def make(
        self, keys: Sequence[SampleKey], *, global_keys: Sequence[SampleKey] | None = None
    ) -> Batch:
        ids = tuple(key.case_id for key in keys)
        drawn = [torch.randn(5, generator=torch.Generator().manual_seed(int(case))) for case in ids]
        return Batch(ids, torch.stack(drawn), any(case in self.spoilt for case in ids))


class Task(nn.Module):
    """Two layers, the last one frozen, and a loss whose gradients float16 cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            layers = [nn.Linear(5, 16), nn.SiLU(), nn.LayerNorm(16), nn.Linear(16, 3)]
            self.layers = nn.Sequential(*layers, nn.Linear(3, 3))
        self.layers[4].requires_grad_(False)
        self.seen: list[torch.dtype] = []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        out: Tensor = self.layers(batch.values.to(next(self.parameters()).dtype))
        self.seen.append(out.dtype)
        if batch.spoilt:
            out = _Spoilt.apply(out)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        per_case = out.float().square().mean(1)
        return {"total": per_case.mean() * 1e-6, "per_case": per_case.detach()}


class Monitor:
    """Reads nothing but that a loss was there."""

    def add(self, batch: Batch, losses: dict[str, Tensor]) -> None:
        self.last = float(losses["total"].detach())

    def check(self, step: int) -> None:
        assert self.last == self.last

    def read(self) -> dict[str, float]:
        return {"loss": self.last}


class Validation:
    """Measures the average in place, as a forward pass of the engine."""

    @torch.no_grad()
    def measure(self, engine: Any, step: int) -> dict[str, float]:
        engine.eval()
        losses = engine(Builder([], {}).make([SampleKey(case, 0) for case in HELD_OUT]))
        engine.train()
        return {"validation": float(losses["total"])}


def run(folder: Path, ranks: Ranks, plan: dict[str, Any], stop: int | None) -> dict[str, Any]:
    """Train under one plan; return weights, average, log and what the layers computed in."""
    block = {"train_batch_size": BATCH, **plan["block"]}
    stage = zero_stage(block)
    task = Task()
    training = Training(
        recipe=RECIPE,
        stage="train",
        run_dir=folder,
        ranks=ranks,
        seed=SEED,
        length=Train(steps=STEPS, log_every=1, checkpoint_every=3, validate_every=3, ema_decay=0.5),
        optimizer=Optimizer(lr=1e-3, decay_power=1.0),
        deepspeed=block,
        model=task,
        builder=Builder(plan.get("spoilt", []), dict.fromkeys(CASES)),
        monitor=Monitor(),
        provenance=Provenance("tiny", ranks.world, stage, 1.0),
        checkpoints=Checkpoints(folder / "checkpoints", keep=2, ranks=ranks, zero_stage=stage),
        observers=ObserverSet([], rank=ranks.rank),
        validation=Validation(),
        stop_after=stop,
    )
    engine, ema = train_loop(training)
    assert ema is not None
    weights = gather_state(engine.module, keep=ranks.is_main, whole=Masters(engine).whole)
    average = gather_state(engine.module, keep=ranks.is_main, whole=ema.whole)
    with ema.applied():
        # As a classifier's choice keeps them.
        present = gather_state(engine.module, keep=ranks.is_main, whole=_present)
    lines = (folder / "train" / "log.jsonl").read_text().splitlines() if ranks.is_main else []
    kept = {"weights": weights, "average": average, "present": present}
    found = {**kept, "log": [json.loads(line) for line in lines]}
    return {**found, "dtype": str(task.seen[-1])}


def main() -> None:
    folder = Path(sys.argv[1])
    ranks = Ranks.from_environment()
    start_distributed(ranks)
    # DeepSpeed collects garbage at every turn; without what is imported that takes no time.
    gc.freeze()
    # Refused to users on a CPU, for its speed; these networks are small.
    precision.lacks = lambda device, dtype: None
    found = {}
    for name, plan in json.loads((folder / "plans.json").read_text()).items():
        if plan.get("resume"):
            run(folder / name, ranks, plan, stop=3)
            barrier()
        found[name] = run(folder / name, ranks, plan, stop=None)
        barrier()
    if ranks.is_main:
        torch.save(found, folder / "found.pt")


if __name__ == "__main__":
    main()
