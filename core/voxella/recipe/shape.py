"""The shape of a recipe, read off its model: which keys are allowed where, which are components.

Keys may still be written by their old name: read for one release, with a warning.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from voxella.plugins.component import Component
from voxella.recipe.model import Recipe
from voxella.recipe.yaml_lines import Node
from voxella.terminal import complain

__all__ = [
    "OLD_KEYS",
    "SLOTS",
    "KeyPath",
    "block_at",
    "default_at",
    "dotted",
    "homes",
    "in_new_names",
    "keys_of",
    "kind_at",
    "nearest",
    "new_name",
]

KeyPath = tuple[str | int, ...]

# Where a recipe holds a component -> the kind of plugin that fills it; "*" is any list index.
SLOTS: dict[tuple[str, ...], str] = {
    ("data", "importer"): "importers",
    ("autoencoder",): "autoencoders",
    ("text", "encoder"): "text_encoders",
    ("conditioner",): "conditioners",
    ("backbone",): "backbones",
    ("classify", "classifier"): "classifiers",
    ("evaluate", "metrics", "*"): "metrics",
    ("observers", "*"): "observers",
}


def dotted(path: Iterable[str | int]) -> str:
    """Return ``a.b.0.c``."""
    return ".".join(str(part) for part in path)


def keys_of(block: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a block's fields by the keys that a recipe writes."""
    return {field.alias or name: field for name, field in block.model_fields.items()}


def kind_at(path: KeyPath) -> str | None:
    """Return the kind of plugin whose block stands at ``path``, or None when it is no component."""
    for slot, kind in SLOTS.items():
        pairs = zip(slot, path, strict=False)
        if len(slot) == len(path) and all(want in ("*", str(part)) for want, part in pairs):
            return kind
    return None


def _block_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any annotation
    """Return the block that an annotation such as ``Text | None`` or ``list[Vector]`` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _block_in(arg))), None)


def block_at(path: KeyPath) -> type[BaseModel] | None:
    """Return the model of the block at ``path``, or None where the recipe has none."""
    block: type[BaseModel] | None = Recipe
    named = False
    for part in path:
        if named or isinstance(part, int) or part.isdecimal():
            named = False
            continue  # the elements of a list or a mapping share one block
        if block is None or part not in keys_of(block):
            return None
        annotation = keys_of(block)[part].annotation
        named, block = get_origin(annotation) is dict, _block_in(annotation)
    return block


def default_at(path: KeyPath) -> Any:  # noqa: ANN401 - any default
    """Return the model's default at ``path``; None where it has none."""
    value: Any = None
    block: type[BaseModel] | None = Recipe
    for step, part in enumerate(path):
        if block is None or str(part) not in keys_of(block):
            return None
        field = keys_of(block)[str(part)]
        value = field.get_default(call_default_factory=True)
        if value is PydanticUndefined:
            value = None
        if value is None and step + 1 < len(path):
            return None  # an absent block has no defaults
        block = _block_in(field.annotation)
    return value


def homes(key: str) -> list[str]:
    """Return the dotted paths of blocks' fields called ``key``, the least deep ones."""

    def walk(block: type[BaseModel], at: tuple[str, ...]) -> Iterator[str]:
        for name, field in keys_of(block).items():
            if name == key:
                yield dotted((*at, name))
            inner = _block_in(field.annotation)
            if inner is not None and not issubclass(inner, Component):
                yield from walk(inner, (*at, name))

    found = list(walk(Recipe, ()))
    least = min((path.count(".") for path in found), default=0)
    return [path for path in found if path.count(".") == least]


def nearest(word: str, expected: Iterable[str]) -> str | None:
    """Return the allowed word most like ``word``, or None when none is alike."""
    return next(iter(difflib.get_close_matches(word, list(expected), n=1)), None)


# Where it stands -> the last part of its new name.
OLD_KEYS: dict[KeyPath, str] = {("evaluate", "floor_halves"): "baseline_halves"}


def in_new_names(tree: Node) -> Node:
    """Return one layer of a recipe with its old keys under their new names.

    Layer by layer, so that a later one still wins whichever name it writes. Where a layer writes
    both, the old one stays, and is refused as a key that does not exist.
    """
    return _renamed(tree, ())


def new_name(parts: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Return a dotted key by its new name.

    Args:
        parts: The key.
        where: It is written, for the warning.
    """
    new = OLD_KEYS.get(parts)
    if new is None:
        return parts
    _warn(where, ".".join(parts), ".".join((*parts[:-1], new)))
    return (*parts[:-1], new)


def _renamed(node: Node, path: KeyPath) -> Node:
    if not isinstance(node.value, dict):
        return node
    found = {}
    for key, child in node.value.items():
        at = (*path, key)
        name = str(OLD_KEYS.get(at, key))
        if name != key and name in node.value:
            name = key
        if name != key:
            _warn(str(child.mark), ".".join(map(str, at)), ".".join(map(str, (*path, name))))
        found[name] = _renamed(child, at)
    return Node(found, node.mark)


@cache
def _warn(where: str, old: str, new: str) -> None:
    complain(f"warning: {where}: {old} is called {new} now; write that: the old name goes")
