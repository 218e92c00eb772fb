"""A recipe that leaves its machine: without the places where data lie, which may name people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxella.recipe.yaml_lines import dump_yaml, parse_text, plain

__all__ = ["without_places"]

# Block (None: the recipe itself) and key of what says where data or runs lie. Files of weights
# stay: a model cannot be used without them, and `--set` names where they are elsewhere.
_PLACES = (
    (None, "workspace"),
    ("data", "dataset"),
    ("sample", "prompts"),
    ("sample", "autoguidance"),
)


def without_places(recipe: str) -> str:
    """Return a resolved recipe, YAML, with null for each folder and file of data.

    An importer goes as a whole where one of its arguments is a path: without that it cannot run.
    """
    found: Any = plain(parse_text(recipe, "recipe.yaml", Path("/"), lines=False))
    for block, key in _PLACES:
        inside = found if block is None else found.get(block)
        if isinstance(inside, dict) and inside.get(key) is not None:
            inside[key] = None
    data = found.get("data")
    if isinstance(data, dict) and any(map(_is_path, (data.get("importer") or {}).values())):
        data["importer"] = None
    return dump_yaml(found)


def _is_path(value: Any) -> bool:  # noqa: ANN401 - any value of a recipe
    if isinstance(value, list):
        return any(map(_is_path, value))
    return isinstance(value, str) and ("/" in value or "\\" in value or value.startswith("~"))
