"""``--set a.b=c``: one value, written on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxella.errors import UserError
from voxella.recipe.layers import merge
from voxella.recipe.shape import dotted, new_name
from voxella.recipe.yaml_lines import Node, parse_text, plain
from voxella.wording import named, quoted, why_no_code

__all__ = ["Override", "apply", "parse_overrides"]


@dataclass(frozen=True)
class Override:
    """A key, split at its dots, and its value."""

    parts: tuple[str, ...]
    value: Node


class _Impossible(Exception):
    """The tree has no such place."""


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """Parse ``key=value`` strings; values are YAML, paths in them relative to the current folder.

    Raises:
        UserError: Naming every string that is not ``a.b=value``.
    """
    found: list[Override] = []
    problems: list[str] = []
    for text in texts:
        try:
            found.append(_parse(text))
        except UserError as error:
            problems.append(error.problem)
    if problems:
        raise UserError(
            "\n".join(problems),
            expected="KEY=VALUE with a dotted key and a YAML value; a number is a list's index",
            remedy="for example --set train.steps=200 --set train.epochs=null",
        )
    return found


_SHOWN = 80


def _parse(text: str) -> Override:
    key, equals, value = text.partition("=")
    # A value that may be a sentence (a label pasted from a report) is not repeated.
    shown = value if not value or why_no_code(value, longest=_SHOWN) is None else "..."
    source = f"--set {named(key)}{equals}{shown}"
    parts = tuple(part.strip() for part in key.split("."))
    if not equals:
        raise UserError(f"{source}: there is no '='")
    if not all(parts):
        raise UserError(f"{source}: the key has an empty part")
    if not value.strip():
        raise UserError(f"{source}: there is no value (write null to switch something off)")
    return Override(new_name(parts, source), parse_text(value, source, Path.cwd(), lines=False))


def apply(tree: Node, overrides: Iterable[Override], *, lenient: bool = False) -> Node:
    """Lay every override on ``tree``, in order.

    Args:
        tree: The recipe so far.
        overrides: What to set.
        lenient: Leave out what has no place yet, because a later layer may make one.

    Raises:
        UserError: Naming every override that has no place, unless ``lenient``.
    """
    problems: list[str] = []
    for override in overrides:
        try:
            tree = merge(tree, _overlay(tree, override.parts, override.value, ()))
        except _Impossible as error:
            problems.append(f"{override.value.mark}: {error}")
    if problems and not lenient:
        raise UserError("\n".join(problems), remedy="voxella recipe show RECIPE prints every key")
    return tree


def _overlay(
    current: Node | None, parts: tuple[str, ...], value: Node, at: tuple[str, ...]
) -> Node:
    """Return the smallest tree that, merged over ``current``, puts ``value`` at ``parts``."""
    if not parts:
        return value
    part, rest, mark = parts[0], parts[1:], value.mark
    if current is not None and isinstance(current.value, list):
        return _element(current, parts, value, at)
    if current is not None and current.value is not None and not isinstance(current.value, dict):
        raise _Impossible(f"{dotted(map(named, at))} is {quoted(plain(current))} and has no keys")
    child = None if current is None else current.get(part)
    return Node({part: _overlay(child, rest, value, (*at, part))}, mark)


def _element(current: Node, parts: tuple[str, ...], value: Node, at: tuple[str, ...]) -> Node:
    """Return the list at ``current`` with one element changed (lists replace, so it is whole)."""
    assert isinstance(current.value, list), "the caller looked"
    element = current.get(parts[0])
    if element is None:
        raise _Impossible(
            f"{dotted(map(named, at))} is a list of {len(current.value)}: index "
            f"{named(parts[0])} is not in it"
        )
    index, path = int(parts[0]), (*at, parts[0])
    items = list(current.value)
    items[index] = merge(element, _overlay(element, parts[1:], value, path), path)
    return Node(items, current.mark)
