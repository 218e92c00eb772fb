"""A study's recipes, each with what the command line lays over all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from voxella.recipe.load import assemble, load_recipe
from voxella.recipe.model import Recipe
from voxella.recipe.overrides import parse_overrides

__all__ = ["Layers", "Loaded", "read_recipe"]

# Blocks that a recipe may switch off: a value for one of them is for the recipes that have it.
_OPTIONAL = ("text", "classify", "autoencoder_training")


@dataclass(frozen=True)
class Layers:
    """What holds for every recipe of the study.

    Attributes:
        profiles: Names or paths.
        overrides: ``a.b=c``; one inside a block that a recipe does not have is left out there.
        dataset: A data set folder, in the place of the recipes' own.
        workspace: Folder of what all recipes share.
        shared: Values that the study itself makes equal; the user's own win.
    """

    profiles: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    dataset: Path | None = None
    workspace: Path | None = None
    shared: tuple[str, ...] = ()

    def within(self, workspace: Path) -> Layers:
        """Return the same with a workspace, unless an override names one."""
        if any(text.partition("=")[0].strip() == "workspace" for text in self.overrides):
            return self
        return replace(self, workspace=workspace)

    def written(self) -> list[str]:
        """Return everything as overrides, the user's own last."""
        places = {
            "data.dataset": self.dataset,
            "workspace": self.workspace,
        }
        # Quoted: a path may hold what YAML takes for a comment or a mapping.
        own = [f"{k}={json.dumps(str(v.absolute()))}" for k, v in places.items() if v is not None]
        return [*self.shared, *own, *self.overrides]


@dataclass(frozen=True)
class Loaded:
    """A recipe and the overrides that it could not take."""

    recipe: Recipe
    left_out: tuple[str, ...]


def read_recipe(path: Path, layers: Layers) -> Loaded:
    """Load one recipe of a study.

    Raises:
        UserError: As :func:`voxella.recipe.load.load_recipe`.
    """
    written = layers.written()
    tree = assemble(path, layers.profiles)
    absent = {key for key in _OPTIONAL if (node := tree.get(key)) is None or node.value is None}
    left_out = [
        text
        for text, override in zip(written, parse_overrides(written), strict=True)
        if len(override.parts) > 1 and override.parts[0] in absent
    ]
    kept = [text for text in written if text not in left_out]
    return Loaded(load_recipe(path, layers.profiles, kept), tuple(left_out))
