"""A stage's numbers for the observers: the same values as in its ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxella.errors import UserError
from voxella.export import load_facts
from voxella.observers.dispatch import ObserverSet
from voxella.recipe.model import Recipe
from voxella.stages.folders import Folders

__all__ = ["observe_results"]


def observe_results(
    recipe: Recipe, folders: Folders, stage: str, metrics: Mapping[str, Mapping[str, Any]]
) -> None:
    """Hand every number that has a value to the recipe's observers, at the model's step.

    Args:
        recipe: The experiment.
        folders: Of the run.
        stage: What they are results of, such as ``evaluate`` or ``classify/real``.
        metrics: As in ``metrics.json``.
    """
    # The table says it all; a line per number would only push it off the screen.
    watching = [component for component in recipe.observers if component.name != "progress"]
    observers = ObserverSet(watching)
    try:
        step = load_facts(folders.model).step
    except UserError:
        step = 0
    observers.run_start(folders.run, recipe, stage, total_steps=0)
    for metric, number in metrics.items():
        if number["value"] is not None:
            observers.metric(step, metric, float(number["value"]))
    observers.run_end("finished")
