"""What differs between two recipes, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from voxella.recipe.model import Recipe

__all__ = ["ABSENT", "Change", "difference", "flatten"]


class _Absent:
    """The value of a key that one of the recipes does not have."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


@dataclass(frozen=True)
class Change:
    """One dotted key and its two values; ABSENT where a recipe has no such key."""

    key: str
    left: Any
    right: Any


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Return ``{dotted key: value}``; a list of blocks is indexed, any other list is one value."""
    return dict(_leaves(recipe.model_dump(mode="json"), ""))


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any JSON value
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if isinstance(value, dict) and value:
        for name, child in value.items():
            yield from _leaves(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def difference(left: Recipe, right: Recipe) -> list[Change]:
    """Return every key whose value differs, in the recipe's order.

    A block that only one side has shows as its keys; the other side's null is left out.
    """
    old, new = flatten(left), flatten(right)
    keys = list(dict.fromkeys([*old, *new]))
    changes = (Change(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys)
    return [
        change
        for change in changes
        if not _equal(change.left, change.right) and not _replaced_by_block(change, keys)
    ]


def _equal(left: Any, right: Any) -> bool:  # noqa: ANN401 - any JSON value
    return bool(left == right) and isinstance(left, bool) is isinstance(right, bool)


def _replaced_by_block(change: Change, keys: list[str]) -> bool:
    missing = change.left is ABSENT or change.right is ABSENT
    return missing and any(key.startswith(f"{change.key}.") for key in keys)
