"""JSON Schema of a recipe FILE, for editors: completion, types and documentation as one types.

A file is not a whole recipe: ``extends`` brings the rest, so nothing is required. A component's
``name`` suggests the built-in plugins and takes any other, because plugins come from elsewhere.
"""

from __future__ import annotations

from typing import Any

from voxella.plugins.registry import list_plugins
from voxella.recipe.model import Recipe
from voxella.recipe.shape import SLOTS, block_at

__all__ = ["recipe_schema"]

_DISTRIBUTION = "voxella"

_EXTENDS = {
    "description": "file or files this one builds on, relative to this file; later ones win",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
_WHEN = {
    "description": "values for recipes of a certain kind only",
    "type": "array",
    "items": {
        "type": "object",
        "required": ["if", "set"],
        "additionalProperties": False,
        "properties": {
            "if": {
                "description": "{dotted.key: value, list of values, or {not: ...}}; all must hold",
                "type": "object",
            },
            "set": {"description": "what to lay over the recipe", "$ref": "#"},
        },
    },
}


def recipe_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of a recipe's or a profile's file."""
    schema = Recipe.model_json_schema()
    blocks: dict[str, Any] = schema["$defs"]
    for block in (schema, *blocks.values()):
        block.pop("required", None)
    for slot, kind in SLOTS.items():
        general = _general(slot)
        blocks[kind] = _component(blocks[general], kind)
        owner = block_at(slot[:-1] if slot[-1] != "*" else ())
        holder = schema if owner in (None, Recipe) else blocks[owner.__name__]
        field = slot[0] if slot[-1] == "*" else slot[-1]
        holder["properties"][field] = _pointed(holder["properties"][field], general, kind)
    for general in {_general(slot) for slot in SLOTS}:
        del blocks[general]
    schema["properties"] = {"extends": _EXTENDS, "when": _WHEN} | schema["properties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "voxella recipe",
        "description": "One experiment, or a part of one that others extend.",
    }


def _component(general: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the block of one kind: known names suggested, any name and any argument allowed."""
    # Only our own names: the file is committed, and must not depend on what else is installed.
    names = [p.name for p in list_plugins() if p.kind == kind and p.distribution == _DISTRIBUTION]
    name = {**general["properties"]["name"], "anyOf": [{"enum": sorted(names)}, {"type": "string"}]}
    name.pop("type", None)
    return {**general, "properties": {**general["properties"], "name": name}, "title": kind}


def _general(slot: tuple[str, ...]) -> str:
    """Return the name of the block that a slot holds: a component, or one with keys of its own."""
    block = block_at(tuple("0" if part == "*" else part for part in slot))
    assert block is not None, "a slot holds a component"
    return block.__name__


def _pointed(field: Any, general: str, kind: str) -> Any:  # noqa: ANN401 - any part of a schema
    """Return a property's schema with every reference to ``general`` turned to ``kind``."""
    if isinstance(field, dict):
        return {
            key: f"#/$defs/{kind}"
            if key == "$ref" and value.endswith(f"/{general}")
            else _pointed(value, general, kind)
            for key, value in field.items()
        }
    if isinstance(field, list):
        return [_pointed(item, general, kind) for item in field]
    return field
