"""Probabilities of cases, shared among the processes, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from voxella.classification.batches import ImageBatch, ImageMaker
from voxella.classification.examples import Example
from voxella.engine.order import Visit
from voxella.files import write_text_atomic
from voxella.metrics.predictions import Predictions
from voxella.ranks import Ranks
from voxella.workspace.state import StateLines

__all__ = [
    "PREDICTIONS",
    "Answer",
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


_ROWS: StateLines[dict[str, Any]] = StateLines(
    _Row, "voxella classify RECIPE with the same --out predicts again"
)


@dataclass(frozen=True)
class Answer:
    """What a classifier says of one case.

    Attributes:
        probability: Of the last class.
        loss: Its focal loss.
    """

    probability: float
    loss: float


@torch.no_grad()
def predict(
    forward: Callable[[ImageBatch], dict[str, Tensor]],
    maker: ImageMaker,
    ranks: Ranks,
    batch_size: int,
) -> dict[str, Answer]:
    """Return every case's answer, by id, the same on every process; collective.

    Every process makes the same number of forward passes, for under ZeRO 3 each is a meeting; one
    that has run out of cases repeats the last and does not count it.

    Args:
        forward: A :class:`voxella.classification.task.ClassifierTask` in evaluation mode, or the
            engine around it.
        maker: Makes batches of the cases, without random changes.
        ranks: This process.
        batch_size: Cases per forward pass.
    """
    ids = sorted(maker.cases)
    parts = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]
    mine = [parts[index] for index in ranks.share(len(parts))]
    found: dict[str, Answer] = {}
    for index in range(-(-len(parts) // ranks.world)):
        part = mine[index] if index < len(mine) else parts[-1]
        batch = maker.make([Visit(case_id, 0) for case_id in part]).to(ranks.device)
        outputs = forward(batch)
        if index < len(mine):
            likely = outputs["logits"].double().softmax(dim=1)[:, -1].tolist()
            losses = outputs["loss_per_case"].double().tolist()
            found |= {c: Answer(p, x) for c, p, x in zip(part, likely, losses, strict=True)}
    if ranks.world > 1:
        everyone: list[dict[str, Answer] | None] = [None] * ranks.world
        torch.distributed.all_gather_object(everyone, found)
        found = {case: answer for part in everyone for case, answer in (part or {}).items()}
    return {case_id: found[case_id] for case_id in ids}


def as_predictions(
    examples: Mapping[str, Example], answers: Mapping[str, Answer], positive: int
) -> Predictions:
    """Return checked predictions: whether a case is of the class ``positive``, and how likely.

    Raises:
        UserError: A probability is not finite.
    """
    ids = sorted(examples)
    return Predictions.of(
        ids,
        [examples[case_id].target == positive for case_id in ids],
        [answers[case_id].probability for case_id in ids],
        patients=[examples[case_id].case.patient for case_id in ids],
    )


def write_predictions(path: Path, by_split: Mapping[str, Predictions]) -> Path:
    """Write a JSON line per case: ``case``, ``patient``, ``split``, ``truth``, ``probability``."""
    lines = [
        json.dumps(
            {
                "case": case_id,
                "patient": patient,
                "split": split,
                "truth": int(truth),
                "probability": float(score),
            }
        )
        for split, found in by_split.items()
        for case_id, patient, truth, score in zip(
            found.ids, found.patients, found.truth, found.scores, strict=True
        )
    ]
    return write_text_atomic(path, "".join(line + "\n" for line in lines))


def read_predictions(path: Path, split: str) -> Predictions | None:
    """Read one split of :func:`write_predictions`; None where the file has none of its cases.

    Raises:
        UserError: There is no such file, or a line cannot be read.
    """
    rows = _ROWS.all_of(path)
    chosen = [row for row in rows if row["split"] == split]
    columns = [[row[k] for row in chosen] for k in ("case", "truth", "probability", "patient")]
    ids, truth, scores, patients = columns
    return Predictions.of(ids, truth, scores, patients=patients) if ids else None
