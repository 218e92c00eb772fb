"""What an evaluation leaves: ``metrics.json``, and the same numbers for the observers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.export import load_facts
from voxella.files import write_json_atomic
from voxella.metrics.features.network import TorchFeatures
from voxella.observers.dispatch import ObserverSet
from voxella.recipe.model import Recipe
from voxella.stages.evaluate_networks import told
from voxella.stages.evaluate_numbers import Numbers
from voxella.stages.evaluate_sets import Sets
from voxella.stages.folders import Folders

__all__ = ["METRICS", "observe", "read_metrics", "write_metrics"]

METRICS = "metrics.json"
_FORMAT = 1


def write_metrics(
    out: Path,
    recipe: Recipe,
    sets: Sets,
    samples: Path,
    networks: list[TorchFeatures],
    numbers: Numbers,
) -> dict[str, Any]:
    """Write ``metrics.json`` and return what it holds.

    The paper's row is in it only where a number of the paper's own network stands beside it.
    """
    comparable = [network for network in networks if network.comparable_with_paper]
    found: dict[str, Any] = {
        "format": _FORMAT,
        "recipe": recipe.name,
        "samples": str(samples),
        "split": sets.split,
        "sequence": recipe.evaluate.sequence or recipe.data.sequences[0],
        "cases": {
            "synthetic": len(sets.synthetic),
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
    if recipe.paper is not None and comparable:
        row = recipe.paper.model_dump(exclude_none=True)
        every = len(comparable) == len(networks)
        found["paper"] = {
            name: value
            for name, value in row.items()
            if name == "model" or _same_network(numbers, name, every=every)
        }
    write_json_atomic(out / METRICS, found)
    return found


def read_metrics(out: Path) -> dict[str, Any] | None:
    """Return what :func:`write_metrics` has written, or None."""
    try:
        found: dict[str, Any] = json.loads((out / METRICS).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found


def observe(
    recipe: Recipe, folders: Folders, name: str, metrics: Mapping[str, Mapping[str, Any]]
) -> None:
    """Hand every number that has a value to the recipe's observers, at the model's step.

    Args:
        recipe: The experiment.
        folders: Of the run.
        name: Of the data set; empty for the run's one.
        metrics: As in ``metrics.json``.
    """
    # The table says it all; a line per number would only push it off the screen.
    watching = [component for component in recipe.observers if component.name != "progress"]
    observers = ObserverSet(watching)
    try:
        step = load_facts(folders.model).step
    except UserError:
        step = 0
    stage = f"evaluate/{name}" if name else "evaluate"
    observers.run_start(folders.run, recipe, stage, total_steps=0)
    for metric, number in metrics.items():
        if number["value"] is not None:
            observers.metric(step, metric, float(number["value"]))
    observers.run_end("finished")


def _same_network(numbers: Numbers, name: str, *, every: bool) -> bool:
    """Tell whether a number of the paper may stand beside ours.

    A distance where its own network is the paper's; the text head's numbers, which know no
    network, where all networks are: then the whole evaluation is meant as the paper's.
    """
    ours = numbers.metrics.get(name)
    if ours is not None and ours.network is not None:
        return ours.comparable_with_paper
    return every and f"text_{name}" in numbers.metrics
