"""Which recipes of a study share a workspace: those that make the same in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from voxella.study.recipes import Loaded

__all__ = ["with_workspaces"]

# Blocks that decide what a workspace holds.
_MADE_IN_IT = {
    *("seed", "workspace_seed", "data", "prepare"),
    *("autoencoder", "autoencoder_training", "latent"),
}


def with_workspaces(loaded: Mapping[Path, Loaded]) -> dict[Path, Loaded]:
    """Give recipes that differ in data, preparation, autoencoder or latents their own workspaces.

    The first recipe, and all like it, keep the study's; another workspace is called after the first
    recipe in it. Texts are not looked at: their features are made again, where another encoder's
    lie, at less cost than another autoencoder.
    """
    owners: dict[str, str] = {}
    found = {}
    for path, entry in loaded.items():
        recipe = entry.recipe
        made = recipe.model_dump(mode="json", include=_MADE_IN_IT)
        owner = owners.setdefault(json.dumps(made, sort_keys=True), recipe.name)
        if recipe.workspace is not None and owner != next(iter(owners.values())):
            own = recipe.workspace.with_name(f"{recipe.workspace.name}-{owner}")
            recipe = recipe.model_copy(update={"workspace": own})
        found[path] = replace(entry, recipe=recipe)
    return found
