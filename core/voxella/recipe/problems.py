"""What is wrong with a recipe, line by line: where, which key, what was received and expected."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from voxella.errors import UserError
from voxella.recipe.shape import KeyPath, block_at, dotted, homes, keys_of, nearest
from voxella.recipe.yaml_lines import Node, locate
from voxella.wording import named, quoted

__all__ = ["Problem", "from_validation", "impossible_numbers", "raise_problems"]

# pydantic's words for a JSON reader -> a recipe writer's
_WORDS = {
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "a word or text",
    "int_type": "a whole number",
    "float_type": "a number",
    "model_type": "a block of keys",
    "dict_type": "a block of keys",
    "path_type": "a path",
}


@dataclass(frozen=True)
class Problem:
    """One mistake: where it stands, the key, and what to say about it."""

    where: str
    path: KeyPath
    text: str

    def __str__(self) -> str:
        # A key may be a report, as a line of one is that has lost its indent; ours are one word.
        key = dotted(named(str(part), most_words=1) for part in self.path)
        return f"{self.where}: {key}: {self.text}" if key else f"{self.where}: {self.text}"


def raise_problems(problems: Iterable[Problem], source: str) -> None:
    """Raise one UserError that lists every problem once; return when there is none."""
    lines = list(dict.fromkeys(str(problem) for problem in problems))
    if not lines:
        return
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    raise UserError(
        "\n".join([f"{source}: {count}", *(f"  {line}" for line in lines)]),
        remedy="fix these lines (every key: voxella recipe schema; every name: voxella plugins)",
    )


def impossible_numbers(tree: Node, path: KeyPath = ()) -> Iterator[Problem]:
    """Yield every number that no setting means, a plugin's and DeepSpeed's among them.

    NaN passes every comparison that it should not; beyond 64 bits lie numbers that torch refuses
    where they are used, hours later.
    """
    value = tree.value
    children: Iterable[tuple[str | int, Node]] = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(str(tree.mark), path, f"received {value}; expected: a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield Problem(str(tree.mark), path, "a whole number of more than 64 bits")
    for key, child in children:
        yield from impossible_numbers(child, (*path, key))


def from_validation(error: ValidationError, tree: Node, prefix: KeyPath = ()) -> list[Problem]:
    """Turn pydantic's errors into problems, one per place.

    Args:
        error: What validation raised.
        tree: The recipe, whose marks say where a value was written.
        prefix: Where in the recipe the validated value stands.
    """
    groups: dict[KeyPath, list[Mapping[str, Any]]] = {}
    for item in error.errors(include_url=False):
        path = (*prefix, *item["loc"])
        # A union adds its members' names to the location: cut them off and gather the members.
        keep = len(path) if item["type"] == "missing" else locate(tree, path)[1]
        groups.setdefault(path[:keep], []).append(dict(item))
    return [_problem(path, items, tree) for path, items in groups.items()]


def _problem(path: KeyPath, items: list[Mapping[str, Any]], tree: Node) -> Problem:
    node, _ = locate(tree, path)
    kind = items[0]["type"]
    if kind == "extra_forbidden":
        text = _unknown(path)
    elif kind == "missing":
        text = _missing(path)
    elif kind in ("value_error", "assertion_error"):
        text = str(items[0]["msg"]).partition(", ")[2]
    else:
        text = _not_accepted(items)
    return Problem(str(node.mark), path, text)


def _unknown(path: KeyPath) -> str:
    key = str(path[-1])
    block = block_at(path[:-1])
    allowed = list(keys_of(block)) if block is not None else []
    if (close := nearest(key, allowed)) is not None:
        return f"unknown key; did you mean {dotted((*path[:-1], close))}?"
    if elsewhere := homes(key):
        return f"unknown key here; expected as {' or '.join(elsewhere)}"
    return f"unknown key; expected: {', '.join(allowed)}"


def _missing(path: KeyPath) -> str:
    block: type[BaseModel] | None = block_at(path[:-1])
    field = keys_of(block).get(str(path[-1])) if block is not None else None
    return (
        f"missing ({field.description})" if field is not None and field.description else "missing"
    )


def _not_accepted(items: list[Mapping[str, Any]]) -> str:
    """Say what was received and what every member of the union would have accepted."""
    received = items[0]["input"]
    allowed = " or ".join(dict.fromkeys(_expected(item) for item in items))
    expected = " ".join(str(item.get("ctx", {}).get("expected", "")) for item in items)
    close = (
        nearest(received, re.findall(r"'([^']*)'", expected)) if isinstance(received, str) else None
    )
    hint = "" if close is None else f"; did you mean {close}?"
    return f"received {quoted(received)}; expected: {allowed}{hint}"


def _expected(item: Mapping[str, Any]) -> str:
    if item["type"] == "literal_error":
        return str(item["ctx"]["expected"])
    if item["type"] in _WORDS:
        return _WORDS[item["type"]]
    return re.sub(r"^(Input|Value|List|Tuple) should (be|have) ", "", str(item["msg"]))
