"""One training of a classifier, to its best epoch and, where it is the last, to its predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.classification.best_checkpoint import (
    BEST,
    BestCheckpoint,
    ResumedCheckpoints,
    read_best,
)
from voxella.classification.examples import Example
from voxella.classification.predict import PREDICTIONS
from voxella.classification.scenario import Scenario
from voxella.classification.task import ClassifierMonitor
from voxella.engine.checkpoints import Provenance
from voxella.engine.order import DataOrder
from voxella.engine.precision import autocast_dtype
from voxella.engine.processor.block import block_here
from voxella.engine.processor.guard import reduced_precision
from voxella.engine.runtime import barrier, broadcast_object
from voxella.engine.settings import deciding
from voxella.engine.sharding import zero_stage
from voxella.engine.train import Training, train_loop
from voxella.hashing import sha256_file, sha256_json
from voxella.observers.dispatch import ObserverSet
from voxella.recipe.model import Train
from voxella.workspace.changes import keep_inputs, refuse_changed
from voxella.workspace.folders import Folders
from voxella.workspace.record import StageRecord

__all__ = ["train_classifier"]

_DECIDES = ("classifier", "training_set", "label", "augment", "loss", "optimizer")


def train_classifier(
    scenario: Scenario, seed: int, stop_after: int | None
) -> dict[str, Any] | None:
    """Train with one seed, phase after phase, and predict validation and test cases at the end.

    What is done already is left alone; a killed training continues.

    Returns:
        What is known of the training: the step that was chosen, its validation. None when stopped.
    """
    home = scenario.folder / f"seed-{seed}"
    before: Path | None = None
    facts: dict[str, Any] = {}
    for number, (name, cases) in enumerate(scenario.examples.phases):
        folder = home / name if name else home
        last = number == len(scenario.examples.phases) - 1
        done = _Phase(scenario, seed, name, folder, cases, before, last).run(stop_after)
        if done is None:
            return None
        facts[name or "chosen"] = done
        before = folder
    return facts


@dataclass(frozen=True)
class _Phase:
    """One training: the only one of a seed, or its first or second half."""

    scenario: Scenario
    seed: int
    name: str
    folder: Path
    cases: dict[str, Example]
    before: Path | None
    last: bool

    @property
    def length(self) -> Train:
        """Return the length, with a validation after each epoch where the recipe names none."""
        settings = self.scenario.settings
        halves = settings.training_set == "synthetic_then_real"
        second = halves and self.last
        length = (settings.finetune if second else None) or settings.train
        every = length.validate_every or self._order.steps(1)
        return length.model_copy(update={"validate_every": every})

    @property
    def _order(self) -> DataOrder:
        batch = int(self.scenario.settings.deepspeed["train_batch_size"])
        return DataOrder(list(self.cases), seed=self.seed, batch_size=batch)

    def decides(self) -> dict[str, Any]:
        """Return everything that decides which weights are kept."""
        scenario, length = self.scenario, self.length
        wanted = scenario.settings.model_dump(mode="json", include=set(_DECIDES))
        kept = ("epochs", "steps", "ema_decay", "validate_every")
        wanted["augment"] = scenario.settings.augment.decides()
        return {
            **wanted,
            "length": {name: getattr(length, name) for name in kept},
            "deepspeed": deciding(scenario.settings.deepspeed),
            "seed": self.seed,
            "phase": self.name,
            "classes": scenario.recipe.data.classes,
            **scenario.recipe.data.named_positive,
            "inputs": scenario.store.key,
            "train": _identities(self.cases),
            "val": _identities(scenario.examples.val),
            "before": None if self.before is None else sha256_file(self.before / BEST),
        }

    def run(self, stop_after: int | None) -> dict[str, Any] | None:
        """Train, unless that is done, and return the step that was chosen; None when stopped."""
        main, decides = self.scenario.ranks.is_main, self.decides()
        tested = {"test": _identities(self.scenario.examples.test)} if self.last else {}
        record = StageRecord(self.folder, "classify", decides | tested)
        wanted = [BEST, PREDICTIONS] if self.last else [BEST]
        there = all((self.folder / name).is_file() for name in wanted)
        if broadcast_object(record.is_current() and there):
            return read_best(self.folder)[1]
        settings, ranks = self.scenario.settings, self.scenario.ranks
        block = block_here(settings.deepspeed, ranks, self.folder / "checkpoints")
        provenance = Provenance(sha256_json(decides), ranks.world, zero_stage(block), 1.0)
        begun = StageRecord(self.folder, "classify", decides)
        if any((self.folder / "checkpoints").glob("step-*")):
            recipe, run = self.scenario.recipe, self.scenario.folder.parents[1]
            folders = Folders.of(run, recipe.workspace, recipe.data.dataset)
            refuse_changed(begun, run=folders.run, work=folders.work, named=self._named)
        barrier()
        if main:
            record.invalidate()
            keep_inputs(begun)
        if not self._train(provenance, block, stop_after):
            return None
        barrier()
        if self.last:
            self.scenario.predict_held_out(self.seed, self.folder)
        _, chosen = read_best(self.folder)
        if main:
            record.complete(wanted, **chosen, training_cases=len(self.cases))
        barrier()
        return chosen

    def _named(self, key: str) -> str:
        """Return the recipe's name of what :meth:`decides`."""
        settings = self.scenario.settings
        second = self.last and settings.training_set == "synthetic_then_real" and settings.finetune
        outside = {"classes": "data.classes", "positive": "data.positive", "seed": "seed"}
        length = "classify.finetune" if second else "classify.train"
        if key.startswith("length."):
            return f"{length}.{key.removeprefix('length.')}"
        return outside.get(key, f"classify.{key}")

    def _train(self, provenance: Provenance, block: dict[str, Any], stop_after: int | None) -> bool:
        """Train to the end; False when stopped before."""
        scenario, length = self.scenario, self.length
        ranks = scenario.ranks
        checkpoints = ResumedCheckpoints(
            self.folder / "checkpoints",
            keep=length.keep_checkpoints,
            ranks=ranks,
            zero_stage=provenance.zero_stage,
        )
        first = checkpoints.newest(provenance) or 0
        training = Training(
            recipe=scenario.recipe,
            stage=self.folder.relative_to(scenario.folder).as_posix(),
            run_dir=scenario.folder,
            ranks=ranks,
            seed=self.seed,
            length=length,
            optimizer=scenario.settings.optimizer,
            deepspeed=block,
            model=scenario.model(self.seed, self.before),
            builder=scenario.builder(self.cases, self.seed, training=True),
            monitor=ClassifierMonitor(ranks),
            provenance=provenance,
            checkpoints=checkpoints,
            observers=ObserverSet(scenario.recipe.observers, rank=ranks.rank),
            stop_after=stop_after,
        )
        choice = BestCheckpoint(
            self.folder,
            scenario.builder(scenario.examples.val, self.seed, training=False),
            ranks,
            scenario.micro_batch,
            every=length.validate_every,
            last=training.total_steps,
            training=provenance.recipe_sha256,
            first=first,
        )
        training.validation = checkpoints.choice = choice
        stopped = stop_after is not None and stop_after < training.total_steps
        self._loop(training, choice, stopped)
        return not stopped

    def _loop(self, training: Training, choice: BestCheckpoint, stopped: bool) -> None:
        ranks, status = self.scenario.ranks, "failed"
        reduced = autocast_dtype(training.deepspeed) is not None
        try:
            with reduced_precision(ranks.device, reduced=reduced):
                engine, ema = train_loop(training)
                if not stopped:
                    choice.catch_up(engine, ema, training.total_steps)
            status = "interrupted" if stopped else "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            training.observers.run_end(status)


def _identities(cases: dict[str, Example]) -> str:
    return sha256_json(sorted((case, e.target, e.identity) for case, e in cases.items()))
