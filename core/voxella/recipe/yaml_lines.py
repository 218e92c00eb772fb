"""YAML as plain data that remembers where it was written: every value knows its file and line.

The dialect is YAML 1.2's core schema, not PyYAML's 1.1: ``1e-4`` is a number, ``no`` and ``on`` are
words, a date is a string. Tags, anchors and duplicated keys are refused, so a recipe is
exactly what it looks like.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml

from voxella.errors import UserError
from voxella.limits import RECIPE_BYTES
from voxella.wording import named, quoted, shown_path, unquoted

__all__ = [
    "Data",
    "Mark",
    "Node",
    "dump_yaml",
    "locate",
    "parse_text",
    "plain",
    "read_yaml",
    "shown",
]

Scalar: TypeAlias = str | int | float | bool | None
Data: TypeAlias = "Scalar | list[Data] | dict[str, Data]"

_STANDARD = "tag:yaml.org,2002:"
_DEEPEST = 32
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
# Far more than 64 bits hold; Python refuses to read more than 4,300.
_DIGITS = 100


@dataclass(frozen=True)
class Mark:
    """Where something was written.

    Attributes:
        source: The file as shown to the user, or the option (``--set a.b=c``).
        line: 1-based, or None for an option.
        folder: What relative paths written there are relative to.
    """

    source: str
    line: int | None
    folder: Path

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Node:
    """A value and where it was written; a value of a mapping has the line of its KEY."""

    value: Scalar | list[Node] | dict[str, Node]
    mark: Mark

    def get(self, key: str | int) -> Node | None:
        """Return the child at a key or list index, or None where there is none."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list) and str(key).isdecimal() and int(key) < len(self.value):
            return self.value[int(key)]
        return None


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema; only its composer is used."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - replaces the base's own class attribute


# Section 10.3.2 of the YAML 1.2.2 specification, without octal and hexadecimal integers.
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_STANDARD + _tag, re.compile(f"^(?:{_pattern})$"), _first)


class _Dumper(yaml.SafeDumper):
    """Quotes every word that either YAML 1.1 or 1.2 would read as something else than a word."""


_Dumper.add_implicit_resolver(
    _STANDARD + "float", re.compile(f"^(?:{_FLOAT})$"), list("-+.0123456789")
)


def shown(path: Path) -> str:
    """Return ``path`` as a user would write it: relative when it lies below the current folder."""
    relative = os.path.relpath(path)
    return shown_path(path if relative.startswith("..") else relative)


def read_yaml(path: Path) -> Node:
    """Read one file, absolute path.

    Raises:
        UserError: When it cannot be read, is not YAML, or holds a tag, an anchor, a key that
            is duplicated or a key that is not a word.
    """
    try:
        text = RECIPE_BYTES.read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{shown(path)}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    return parse_text(text, shown(path), path.parent)


def parse_text(text: str, source: str, folder: Path, *, lines: bool = True) -> Node:
    """Parse one YAML document; an empty one is null.

    Args:
        text: The document.
        source: How errors call it.
        folder: What relative paths in it are relative to.
        lines: Whether line numbers mean anything to the user (not for ``--set``).

    Raises:
        UserError: As :func:`read_yaml`.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except RecursionError:
        raise UserError(f"{source}: nested more than {_DEEPEST} levels deep") from None
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        mark = Mark(source, at.line + 1 if at is not None and lines else None, folder)
        raise UserError(f"{mark}: not YAML: {unquoted(error.problem)}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not YAML: {str(error).splitlines()[0]}") from None
    if root is None:
        return Node(None, Mark(source, 1 if lines else None, folder))
    return _Converter(source, folder, lines).convert(root)


class _Converter:
    """Composed YAML nodes to :class:`Node`."""

    def __init__(self, source: str, folder: Path, lines: bool) -> None:
        self.source = source
        self.folder = folder
        self.lines = lines
        self.seen: set[int] = set()

    def mark(self, node: yaml.Node) -> Mark:
        line = node.start_mark.line + 1 if self.lines else None
        return Mark(self.source, line, self.folder)

    def convert(self, node: yaml.Node, mark: Mark | None = None, depth: int = 0) -> Node:
        mark = mark or self.mark(node)
        if id(node) in self.seen:
            # An alias yields its anchor's node a second time; expanding them can also explode.
            raise UserError(
                f"{mark}: anchors and aliases (&x, *x) are refused in a recipe",
                remedy="share values between files with extends, or repeat them",
            )
        self.seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            return Node(self.scalar(node), mark)
        if depth == _DEEPEST:  # everything that reads the tree goes down by recursion
            raise UserError(f"{mark}: nested more than {_DEEPEST} levels deep")
        if isinstance(node, yaml.MappingNode) and node.tag == _STANDARD + "map":
            return Node(self.mapping(node, depth + 1), mark)
        if isinstance(node, yaml.SequenceNode) and node.tag == _STANDARD + "seq":
            return Node([self.convert(item, depth=depth + 1) for item in node.value], mark)
        raise self.refused(node)

    def mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Node]:
        children: dict[str, Node] = {}
        for key_node, value_node in node.value:
            mark = self.mark(key_node)
            key = self.scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                told = quoted(key_node.value)
                raise UserError(f"{mark}: a key must be a word, received {told} (quoted, it is)")
            if key in children:
                first = children[key].mark
                problem = f"{mark}: the key {quoted(key)} is duplicated, first in {first}"
                raise UserError(problem, remedy="keep one of the two")
            children[key] = self.convert(value_node, mark, depth)
        return children

    def scalar(self, node: yaml.ScalarNode) -> Scalar:
        text: str = node.value
        if _UNWRITABLE.search(text):
            what = "half of a character (a lone surrogate), or a null"
            raise UserError(f"{self.mark(node)}: holds {what}")
        match node.tag.removeprefix(_STANDARD):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                if len(text) > _DIGITS:
                    raise UserError(f"{self.mark(node)}: a whole number of {len(text):,} digits")
                return int(text)
            case "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan").lower())
        raise self.refused(node)

    def refused(self, node: yaml.Node) -> UserError:
        tag = node.tag.replace(_STANDARD, "!!")
        return UserError(
            f"{self.mark(node)}: the tag {named(tag)} is refused: a recipe holds plain data",
            expected="words, numbers, true, false, null, lists, mappings",
        )


def plain(node: Node) -> Data:
    """Return the value without its marks."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def locate(tree: Node, path: tuple[str | int, ...]) -> tuple[Node, int]:
    """Follow ``path`` as far as it goes; return the node there and how many steps it took."""
    node = tree
    for step, part in enumerate(path):
        child = node.get(part)
        if child is None:
            return node, step
        node = child
    return node, len(path)


def dump_yaml(data: Data) -> str:
    """Return ``data`` as block YAML that :func:`parse_text` reads back unchanged."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
