"""The epoch that is kept: the one with the best validation, its weights always on the disk."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from typing_extensions import TypedDict

from voxella.classification.batches import ImageBatchBuilder
from voxella.classification.predict import as_predictions, predict
from voxella.engine.checkpoints import Checkpoints
from voxella.engine.ema import Ema, full_tensor, local_shard
from voxella.engine.log import LOSSES, LossLog
from voxella.engine.runtime import broadcast_object, gather_state
from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.machine import naming
from voxella.metrics.multiclass import auc_of
from voxella.plain_json import json_or_none
from voxella.ranks import Ranks
from voxella.workspace.state import DamagedError

__all__ = ["BestCheckpoint", "ResumedCheckpoints", "read_best"]

BEST = "best.safetensors"
JOURNAL = "validation.jsonl"
_HEADER = "voxella"


class _Facts(TypedDict):
    step: int
    auc: float | None
    loss: float
    training: str


_FACTS: TypeAdapter[_Facts] = TypeAdapter(_Facts)


class BestCheckpoint:
    """Measures validation cases now and then and keeps the weights that did best.

    Best is the highest AUC (of several classes the mean, each against the rest); among equals, and
    where a class is absent, the lowest loss;
    then the earliest. The file ``best.safetensors`` carries step, AUC and loss in its header, so
    weights and what is said of them are one file. They are what was measured: the average, where
    one is kept.

    Args:
        folder: Of the training.
        builder: Makes batches of the validation cases.
        ranks: This process.
        batch_size: Cases per forward pass.
        every: Steps between two measurements.
        last: The training's last step, which is measured too.
        training: Hash of what decides the training; the best of another one is no candidate.
        first: Steps done before; later lines of an interrupted run are dropped.
    """

    def __init__(
        self,
        folder: Path,
        builder: ImageBatchBuilder,
        ranks: Ranks,
        batch_size: int,
        *,
        every: int,
        last: int,
        training: str,
        first: int,
    ) -> None:
        self.folder = folder
        self.builder = builder
        self.ranks = ranks
        self.batch_size = batch_size
        self.every = every
        self.last = last
        self.training = training
        self._log = LossLog(folder / JOURNAL, first_step=first) if ranks.is_main else None
        self._measured = broadcast_object(_steps(folder / JOURNAL))
        self._best = broadcast_object(self._candidate())

    @torch.no_grad()
    def measure(self, engine: Any, step: int) -> dict[str, float]:  # noqa: ANN401 - DeepSpeed ships no types
        """Measure the weights as they are and keep them where they are the best; collective."""
        _same_buffers(engine.module, self.ranks)
        engine.eval()
        predicted = predict(engine, self.builder, self.ranks, self.batch_size)
        engine.train()
        found = as_predictions(
            self.builder.cases, predicted, self.builder.classes, self.builder.positive
        )
        auc = auc_of(found)
        loss = float(np.mean([prediction.loss for prediction in predicted.values()]))
        rank = _rank(auc, loss)
        if self._best is None or rank > self._best:
            self._best = rank
            self._keep(engine.module, step, auc, loss)
        scalars = {"validation/loss": loss} | ({} if auc is None else {"validation/auc": auc})
        if self._log is not None:
            self._log.write(step, scalars)
        self._measured.add(step)
        return scalars

    def catch_up(self, engine: Any, ema: Ema | None, step: int) -> None:  # noqa: ANN401 - DeepSpeed ships no types
        """Measure a step that is due and was not: a kill came between checkpoint and validation."""
        due = step % self.every == 0 or step == self.last
        if not due or step in self._measured:
            return
        with nullcontext() if ema is None else ema.applied():
            self.measure(engine, step)
            # As the loop does after its own validation.
            engine.empty_partition_cache()

    def _candidate(self) -> tuple[float, float] | None:
        path = self.folder / BEST
        if not path.is_file():
            return None
        facts = _header(path)
        if facts.get("training") != self.training:
            return None
        return _rank(facts["auc"], facts["loss"])

    def _keep(self, module: nn.Module, step: int, auc: float | None, loss: float) -> None:
        state = gather_state(module, keep=self.ranks.is_main, whole=_present)
        if not self.ranks.is_main:
            return
        facts = {"step": step, "auc": auc, "loss": loss, "training": self.training}
        with atomic_path(self.folder / BEST) as temporary:
            # One entry: the order of several is a matter of chance, and the file's hash with it.
            save_file(state, temporary, metadata={_HEADER: json.dumps(facts)})


class ResumedCheckpoints(Checkpoints):
    """Checkpoints that, when one is continued, see to a validation that the journal lacks.

    The loop validates before it saves. Where the journal was lost since, a run that goes on would
    without this never look at that epoch, and might keep another one than a run that was not
    killed.
    """

    choice: BestCheckpoint | None = None

    def load(self, engine: Any, ema: Ema | None, step: int) -> dict[str, float]:  # noqa: ANN401 - DeepSpeed ships no types
        """Continue from the checkpoint of ``step``; collective."""
        scale = super().load(engine, ema, step)
        if self.choice is not None:
            self.choice.catch_up(engine, ema, step)
        return scale


def read_best(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the best weights of a training and their ``step``, ``auc`` and ``loss``.

    Raises:
        UserError: There are none.
    """
    path = folder / BEST
    if not path.is_file():
        raise UserError(f"{path} does not exist", remedy="voxella classify RECIPE --out RUN")
    header = _header(path)
    if not header:
        again = f"rm {path}, then voxella classify RECIPE with the same --out trains again"
        raise DamagedError(path, "it does not say what its weights are", again)
    with naming(path), safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}
    return weights, {name: header[name] for name in ("step", "auc", "loss")}


def _header(path: Path) -> dict[str, Any]:
    """Return what is said of the weights; nothing where the file is damaged."""
    try:
        with naming(path), safe_open(path, framework="pt") as file:
            found = json_or_none((file.metadata() or {}).get(_HEADER, "{}"))
        _FACTS.validate_python(found, strict=True)
    except (SafetensorError, ValueError):  # pydantic's is a ValueError
        return {}
    facts: dict[str, Any] = found
    return facts


def _rank(auc: float | None, loss: float) -> tuple[float, float]:
    """Return what is larger for a better epoch."""
    return (-1.0 if auc is None else auc, -loss)


def _steps(journal: Path) -> set[int]:
    return {int(line["step"]) for line in LOSSES.read(journal, quiet=True)}


def _present(parameter: nn.Parameter) -> Tensor:
    """Return all of a parameter as it stands now, average or not."""
    now = local_shard(parameter)
    return full_tensor(parameter, now) if hasattr(parameter, "ds_id") else now


def _same_buffers(module: nn.Module, ranks: Ranks) -> None:
    """Average running statistics over the processes, each of which has seen its own images.

    Batch norm's are the case in point. They do not act while training, so this changes no weight.
    """
    if ranks.world == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            torch.distributed.all_reduce(buffer)
            buffer /= ranks.world
