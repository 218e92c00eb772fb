"""Paths in a recipe: relative to the file that wrote them, absolute once it is resolved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from voxella.recipe.yaml_lines import Node

__all__ = ["absolute", "anchored"]


def absolute(path: str | Path, folder: Path) -> Path:
    """Return ``path`` absolute, ``~`` expanded, ``..`` folded, links left as they are."""
    return Path(os.path.abspath(folder / os.path.expanduser(path)))


def anchored(value: Any, node: Node | None) -> Any:  # noqa: ANN401 - any value of a recipe
    """Return ``value`` with every Path in it made absolute.

    Args:
        value: A validated value; containers are searched.
        node: The same value as written; its marks name the folder. None leaves the value alone:
            it is a default, which no file wrote.
    """
    if node is None:
        return value
    if isinstance(value, Path):
        return absolute(value, node.mark.folder)
    if isinstance(value, dict):
        return {key: anchored(item, node.get(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [anchored(item, node.get(index)) for index, item in enumerate(value)]
        return type(value)(items)
    return value
