"""Keys that recipes may still write by their old name: read for one release, with a warning."""

from __future__ import annotations

from functools import cache

from voxella.recipe.shape import KeyPath
from voxella.recipe.yaml_lines import Node
from voxella.terminal import complain

__all__ = ["OLD_KEYS", "in_new_names", "new_name"]

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
