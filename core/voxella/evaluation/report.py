"""What an evaluation leaves: ``metrics.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from voxella.evaluation.networks import Network, told
from voxella.evaluation.numbers import Numbers
from voxella.evaluation.sets import Sets
from voxella.files import write_json_atomic
from voxella.recipe.model import Recipe
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
    recipe: Recipe,
    sets: Sets,
    samples: Path,
    networks: list[Network],
    numbers: Numbers,
) -> dict[str, Any]:
    """Write ``metrics.json`` and return what it holds.

    The paper's row is in it only where it means the same: held-out patients (sections 3.1 and 3.5:
    its hold-out test set assesses all results), seen by its own network.
    """
    comparable = [network for network in networks if network.comparable_with_paper]
    phantoms = any(subject.case.label_source == "phantom" for subject in sets.real)
    found: dict[str, Any] = {
        "format": _FORMAT,
        "recipe": recipe.name,
        "samples": str(samples),
        "split": sets.split,
        "sequence": recipe.evaluate.sequence or recipe.data.sequences[0],
        "cases": {
            "synthetic": len(sets.synthetic),
            "generated": len(sets.generated),
            "real": len(sets.real),
            "training": len(sets.training),
            "unseen": len(sets.unseen),
        },
        "unseen_split": sets.unseen_split,
        "paired": sets.paired,
        "seed": recipe.seed,
        "networks": told(networks),
        "metrics": {name: one.as_json() for name, one in numbers.metrics.items()},
        **numbers.facts,
    }
    if recipe.paper is not None and comparable and sets.split == "test" and not phantoms:
        row = recipe.paper.model_dump(exclude_none=True)
        every = len(comparable) == len(networks)
        found["paper"] = {
            name: value
            for name, value in row.items()
            if name == "model" or _same_network(numbers, name, every=every)
        }
    write_json_atomic(out / METRICS, sealed(found))
    return found


def read_metrics(out: Path) -> dict[str, Any] | None:
    """Return what :func:`write_metrics` has written, or None."""
    return MEASURED.read_or_remake(out / METRICS)


def _same_network(numbers: Numbers, name: str, *, every: bool) -> bool:
    """Tell whether a number of the paper may stand beside ours.

    A distance where its own network is the paper's; the text head's numbers, which know no
    network, where all networks are: then the whole evaluation is meant as the paper's.
    """
    ours = numbers.metrics.get(name)
    if ours is not None and ours.network is not None:
        return ours.comparable_with_paper
    return every and f"text_{name}" in numbers.metrics
