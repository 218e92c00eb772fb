"""What an evaluation leaves: ``metrics.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from voxella.data.phantoms import are_phantoms
from voxella.evaluation.networks import Network, told
from voxella.evaluation.numbers import Numbers
from voxella.evaluation.sets import Sets
from voxella.files import write_json_atomic
from voxella.metrics.declared.published import row_beside
from voxella.recipe.model import PaperRow
from voxella.workspace.state import StateFile, sealed

__all__ = ["MEASURED", "METRICS", "NUMBERS", "read_metrics", "write_metrics"]

METRICS = "metrics.json"
_FORMAT = 1


class _Measured(TypedDict):
    format: int
    samples: str
    split: str
    cases: dict[str, int]
    networks: list[dict[str, Any]]
    metrics: dict[str, dict[str, Any]]


class _Numbers(TypedDict):
    metrics: dict[str, dict[str, Any]]


# Of an evaluation or of classifiers, for those who show it beside others.
NUMBERS: StateFile[dict[str, Any]] = StateFile(
    _Numbers, "rm {path}, then run its stage again with the same --out: it measures again"
)
MEASURED: StateFile[dict[str, Any]] = StateFile(
    _Measured, "rm {path}, then voxella evaluate RECIPE with the same --out measures again"
)


def write_metrics(
    out: Path,
    sets: Sets,
    samples: Path,
    networks: list[Network],
    numbers: Numbers,
    *,
    recipe: str,
    sequence: str,
    seed: int,
    paper: PaperRow | None,
) -> dict[str, Any]:
    """Write ``metrics.json`` and return what it holds.

    The paper's row is in it as far as
    :func:`voxella.metrics.declared.published.row_beside` lets it.

    Args:
        out: The folder.
        sets: Who was compared.
        samples: The data set that was measured.
        networks: What made the features.
        numbers: What was measured.
        recipe: Its name.
        sequence: That the networks saw.
        seed: Of every draw.
        paper: The paper's row; None: there is none.
    """
    found: dict[str, Any] = {
        "format": _FORMAT,
        "recipe": recipe,
        "samples": str(samples),
        "split": sets.split,
        "sequence": sequence,
        "cases": {
            "synthetic": len(sets.synthetic),
            "generated": len(sets.generated),
            "real": len(sets.real),
            "training": len(sets.training),
            "unseen": len(sets.unseen),
        },
        "unseen_split": sets.unseen_split,
        "paired": sets.paired,
        "seed": seed,
        "networks": told(networks),
        "metrics": {name: one.as_json() for name, one in numbers.metrics.items()},
        **numbers.facts,
    }
    if paper is not None:
        row = row_beside(
            paper.model_dump(exclude_none=True),
            numbers.metrics,
            [network.comparable_with_paper for network in networks],
            split=sets.split,
            phantoms=are_phantoms(subject.case for subject in sets.real),
        )
        found |= {} if row is None else {"paper": row}
    write_json_atomic(out / METRICS, sealed(found))
    return found


def read_metrics(out: Path) -> dict[str, Any] | None:
    """Return what :func:`write_metrics` has written, or None."""
    return MEASURED.read_or_remake(out / METRICS)
