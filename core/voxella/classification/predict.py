"""Probabilities of cases, shared among the processes, and the file that keeps them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from voxella.classification.batches import ImageBatch, ImageBatchBuilder
from voxella.classification.examples import Example
from voxella.engine.order import SampleKey
from voxella.files import write_text_atomic
from voxella.metrics.predictions import ClassPredictions, Predictions, predictions_of
from voxella.ranks import Ranks
from voxella.workspace.state import StateLines

__all__ = [
    "PREDICTIONS",
    "Prediction",
    "as_predictions",
    "predict",
    "read_predictions",
    "write_predictions",
]

PREDICTIONS = "predictions.jsonl"


class _Row(TypedDict):
    case: str
    patient: str
    split: str
    truth: Annotated[int, Field(ge=0, le=1)]
    probability: Annotated[float, Field(ge=0, le=1)]


class _ClassRow(TypedDict):
    case: str
    patient: str
    split: str
    truth: Annotated[int, Field(ge=0)]
    probabilities: dict[str, Annotated[float, Field(ge=0, le=1)]]


_ROWS: StateLines[dict[str, Any]] = StateLines(
    _Row | _ClassRow, "voxella classify RECIPE with the same --out predicts again"
)


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one case.

    Attributes:
        probabilities: Of each class.
        loss: Its focal loss.
    """

    probabilities: tuple[float, ...]
    loss: float


@torch.no_grad()
def predict(
    forward: Callable[[ImageBatch], dict[str, Tensor]],
    builder: ImageBatchBuilder,
    ranks: Ranks,
    batch_size: int,
) -> dict[str, Prediction]:
    """Return every case's prediction, by id, the same on every process; collective.

    Every process makes the same number of forward passes, for under ZeRO 3 each is a meeting; one
    that has run out of cases repeats the last and does not count it.

    Args:
        forward: A :class:`voxella.classification.task.ClassifierTask` in evaluation mode, or the
            engine around it.
        builder: Makes batches of the cases, without random changes.
        ranks: This process.
        batch_size: Cases per forward pass.
    """
    ids = sorted(builder.cases)
    parts = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]
    mine = [parts[index] for index in ranks.share(len(parts))]
    found: dict[str, Prediction] = {}
    for index in range(-(-len(parts) // ranks.world)):
        part = mine[index] if index < len(mine) else parts[-1]
        batch = builder.make([SampleKey(case_id, 0) for case_id in part]).to(ranks.device)
        outputs = forward(batch)
        if index < len(mine):
            likely = outputs["logits"].double().softmax(dim=1).tolist()
            losses = outputs["loss_per_case"].double().tolist()
            found |= {
                c: Prediction(tuple(p), x) for c, p, x in zip(part, likely, losses, strict=True)
            }
    if ranks.world > 1:
        everyone: list[dict[str, Prediction] | None] = [None] * ranks.world
        torch.distributed.all_gather_object(everyone, found)
        found = {case: prediction for part in everyone for case, prediction in (part or {}).items()}
    return {case_id: found[case_id] for case_id in ids}


def as_predictions(
    examples: Mapping[str, Example],
    predicted: Mapping[str, Prediction],
    classes: Sequence[str],
    positive: str | None,
) -> Predictions | ClassPredictions:
    """Return checked predictions: of the positive class against the rest, or of every class.

    Raises:
        UserError: A probability is not finite.
    """
    ids = sorted(examples)
    return predictions_of(
        classes,
        positive,
        ids,
        [classes[examples[case_id].target] for case_id in ids],
        [predicted[case_id].probabilities for case_id in ids],
        patients=[examples[case_id].case.group for case_id in ids],
    )


def write_predictions(path: Path, by_split: Mapping[str, Predictions | ClassPredictions]) -> Path:
    """Write a JSON line per case: ``case``, ``patient``, ``split``, ``truth``, ``probability``.

    Without a positive class ``truth`` is the place of the class, and ``probabilities`` are by name.
    """
    lines = [
        json.dumps(
            {"case": case_id, "patient": patient, "split": split, "truth": int(truth), **likely}
        )
        for split, found in by_split.items()
        for case_id, patient, truth, likely in zip(
            found.ids, found.patients, found.truth, _likely(found), strict=True
        )
    ]
    return write_text_atomic(path, "".join(line + "\n" for line in lines))


def _likely(found: Predictions | ClassPredictions) -> list[dict[str, Any]]:
    if isinstance(found, Predictions):
        return [{"probability": score} for score in found.scores.tolist()]
    rows = found.scores.tolist()
    return [{"probabilities": dict(zip(found.classes, row, strict=True))} for row in rows]


def read_predictions(path: Path, split: str) -> Predictions | ClassPredictions | None:
    """Read one split of :func:`write_predictions`; None where the file has none of its cases.

    Raises:
        UserError: There is no such file, or a line cannot be read.
    """
    rows = _ROWS.all_of(path)
    chosen = [row for row in rows if row["split"] == split]
    if not chosen:
        return None
    ids, truth, patients = ([row[key] for row in chosen] for key in ("case", "truth", "patient"))
    if "probabilities" not in chosen[0]:
        likely = [row["probability"] for row in chosen]
        return Predictions.of(ids, truth, likely, patients=patients)
    classes = tuple(chosen[0]["probabilities"])
    # A case that lacks a class is refused by its name.
    each = [[row["probabilities"].get(name, math.nan) for name in classes] for row in chosen]
    return ClassPredictions.of(classes, ids, truth, each, patients=patients)
