"""The training loop: one path for one process and for many.

Everything random is a function of (seed, case id, epoch), so the loop keeps no generator state and
a resumed run continues bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from voxella.engine.checkpoints import Checkpoints, Provenance
from voxella.engine.ema import Ema, Masters
from voxella.engine.log import LossLog
from voxella.engine.loss_scale import LossScale
from voxella.engine.optimizer import build_optimizer
from voxella.engine.order import DataOrder
from voxella.engine.parameters import parameter_groups
from voxella.engine.precision import autocast_dtype
from voxella.engine.refusals import refuse_gradient, refuse_losses
from voxella.engine.runtime import gradient_norm, initialize, largest
from voxella.engine.settings import deepspeed_config
from voxella.engine.task import (
    BatchBuilder,
    Monitoring,
    SecondOptimizer,
    TaskBatch,
    Validating,
    prefetch,
)
from voxella.files import own_folder
from voxella.observers.dispatch import ObserverSet
from voxella.ranks import Ranks
from voxella.recipe.model import Optimizer, Recipe, Train
from voxella.stopping import Interrupted, held_back, requested

__all__ = ["Training", "train_loop"]

_T = TypeVar("_T")
Panel = Callable[[int, Any], None]


@dataclass
class Training:
    """What the loop needs; made by the stage that trains.

    Attributes:
        recipe: The experiment, for observers.
        stage: The stage's name; its losses are logged in ``run_dir/STAGE/log.jsonl``.
        run_dir: The run folder.
        ranks: This process.
        seed: Of the order and of the randomness inside layers.
        length: The recipe's ``train`` block, or another of its kind.
        optimizer: How it learns.
        deepspeed: The ``deepspeed`` block.
        model: Untrained, on the CPU; its forward pass returns named losses, ``total`` among them.
        builder: Makes batches.
        monitor: Sums what is logged.
        provenance: What a checkpoint must share with this run to be continued.
        checkpoints: Where they are.
        observers: Told of steps on rank 0.
        panel: Draws a fixed-seed sample panel from the averaged model; None: no panels.
        validation: Measures the averaged model on held-out cases; None: there are none.
        stop_after: Stop, with a checkpoint, when this step is done or was before. None: at the end.
        second: A network that learns beside the model, an adversary say; None: there is none.
        rate: The factor on the learning rate by step (from 0); None: the optimizer block's decay.
        rate_key: The recipe's key of the learning rate, for messages.
        own_order: Which cases a step sees; None: an endless stream in whole batches.
        average: Makes the average of the weights, where there is one.
    """

    recipe: Recipe
    stage: str
    run_dir: Path
    ranks: Ranks
    seed: int
    length: Train
    optimizer: Optimizer
    deepspeed: dict[str, Any]
    model: nn.Module
    builder: BatchBuilder
    monitor: Monitoring
    provenance: Provenance
    checkpoints: Checkpoints
    observers: ObserverSet
    panel: Panel | None = None
    validation: Validating | None = None
    stop_after: int | None = None
    second: SecondOptimizer | None = None
    rate: Callable[[int], float] | None = None
    rate_key: str = "optimizer.lr"
    own_order: DataOrder | None = None
    average: Callable[[nn.Module, Masters, float], Ema] = Ema
    order: DataOrder = field(init=False)

    def __post_init__(self) -> None:
        self.order = self.own_order or DataOrder(
            list(self.builder.cases),
            seed=self.seed,
            batch_size=int(self.deepspeed["train_batch_size"]),
        )

    @property
    def total_steps(self) -> int:
        """Return the run's length in optimizer steps."""
        return self.length.steps or self.order.steps(self.length.epochs or 1)

    def builders(self, first_step: int, accumulation: int) -> Iterator[Callable[[], TaskBatch]]:
        """Yield what makes each micro batch of this process, in order."""
        for step in range(first_step, self.total_steps):
            everyone = self.order.step(step)
            for keys in self.order.micro_batches(
                step, rank=self.ranks.rank, world=self.ranks.world, accumulation=accumulation
            ):
                yield partial(self.builder.make, keys, global_keys=everyone)


@held_back()
def train_loop(run: Training) -> tuple[Any, Ema | None]:
    """Train to the end and return the DeepSpeed engine and the averaged weights.

    Raises:
        UserError: When the loss is not finite, or a checkpoint does not belong to this run.
        Interrupted: A signal has asked one of the processes to stop; a checkpoint is written.
    """
    ranks, total, length = run.ranks, run.total_steps, run.length
    config = deepspeed_config(run.deepspeed, world=ranks.world, device=ranks.device)
    checkpoints, monitor = run.checkpoints, run.monitor
    first = checkpoints.newest(run.provenance) or 0
    engine, ema, scale = _build(run, config)
    if first:
        scale.load_state_dict(checkpoints.load(engine, ema, first))
        if run.second is not None:
            run.second.load_state_dict(checkpoints.load_second(first))
    accumulation = config["gradient_accumulation_steps"]
    batches = prefetch(run.builders(first, accumulation))
    written = run.run_dir / run.stage / "log.jsonl"
    log = LossLog(written, first_step=first) if ranks.is_main else None
    run.observers.run_start(run.run_dir, run.recipe, run.stage, total, first)

    last = total if run.stop_after is None else min(run.stop_after, total)
    engine.train()
    for step in range(first + 1, last + 1):
        _seed_layers(run.seed, step, ranks.rank)
        rate = engine.get_lr()[0]
        logged = step % length.log_every == 0 or step == total
        saved = step % length.checkpoint_every == 0 or step == last
        norm = None
        for micro in range(accumulation):
            batch = next(batches).to(ranks.device)
            losses = engine(batch)
            engine.backward(scale.scaled(losses["total"]))
            if run.second is not None:
                losses |= run.second.backward(batch, losses, micro_batches=accumulation)
            monitor.add(batch, losses)
            if micro == accumulation - 1:
                # Only the last micro batch's engine.step() changes weights.
                refuse_losses(monitor, scale, step, checkpoints, run.rate_key)
                norm = gradient_norm(engine) if logged or saved else None
            engine.step()
        if run.second is not None:
            run.second.step(step)
        # Under ZeRO, and where precision is cast, DeepSpeed measures it in its step.
        known = engine.get_global_grad_norm()
        norm = norm if known is None else float(known)
        if scale.skips():
            norm = None
        else:
            refuse_gradient(norm, step, checkpoints, run.rate_key)
            if ema is not None:
                ema.update()
        scalars: dict[str, float] = {}
        if logged:
            scalars = {**monitor.read(), "lr": rate, **scale.scalars()}
            scalars |= {} if norm is None else {"grad_norm": norm}
            run.observers.step_end(step, scalars)
        if _due(step, length.panel_every) and run.panel is not None:
            _with_average(engine, ema, partial(_draw_panel, run.panel, step, engine))
        if _due(step, length.validate_every) and run.validation is not None:
            measured = _with_average(engine, ema, partial(run.validation.measure, engine, step))
            for name, value in measured.items():
                run.observers.metric(step, name, value)
            scalars |= measured
        # The checkpoint comes last: what a kill keeps out of the log is measured once more.
        if log is not None and scalars:
            log.write(step, scalars)
        stop = largest(requested())
        if saved or stop:
            second = None if run.second is None else run.second.state_dict()
            kept = checkpoints.save(engine, ema, step, run.provenance, scale.state_dict(), second)
        if stop:
            raise Interrupted(stop, str(kept))
    return engine, ema


def _build(run: Training, config: dict[str, Any]) -> tuple[Any, Ema | None, LossScale]:
    model = run.model.to(run.ranks.device)
    if run.length.compile:
        # What is compiled is kept for the next run, by default in a folder of a name that anybody
        # on this host could have taken, and filled with code.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(own_folder() / "compiled"))
        # In place, so that parameter names, checkpoints and exports do not change.
        getattr(model, "backbone", model).compile()
    optimizer, schedule = build_optimizer(
        parameter_groups(model, run.optimizer.groups),
        run.optimizer,
        total_steps=run.total_steps,
        factor=run.rate,
    )
    engine = initialize(run.ranks, model, config, optimizer, schedule)
    half = autocast_dtype(run.deepspeed) == "float16"
    scale = LossScale(engine, optimizer, run.ranks, enabled=half)
    decay = run.length.ema_decay
    ema = None if decay is None else run.average(engine.module, Masters(engine), decay)
    return engine, ema, scale


def _seed_layers(seed: int, step: int, rank: int) -> None:
    """Make the randomness inside layers (a plugin's dropout) a function of the step."""
    torch.manual_seed(((seed * 1_000_003 + step) * 65_537 + rank) % 2**63)  # 64 bits at most


def _due(step: int, every: int) -> bool:
    """Return whether something is due at a step; an interval of 0 means never."""
    return every > 0 and step % every == 0


def _with_average(engine: Any, ema: Ema | None, act: Callable[[], _T]) -> _T:  # noqa: ANN401 - DeepSpeed ships no types
    """Do something with the averaged weights in place, if there is an average."""
    with nullcontext() if ema is None else ema.applied():
        done = act()
        # Under ZeRO 3 a forward pass leaves gathered weights lying about for a backward pass; the
        # next training step would compute with the average.
        engine.empty_partition_cache()
    return done


def _draw_panel(panel: Panel, step: int, engine: Any) -> None:  # noqa: ANN401 - DeepSpeed ships no types
    engine.eval()
    with torch.no_grad():
        panel(step, engine.module)
    engine.train()
