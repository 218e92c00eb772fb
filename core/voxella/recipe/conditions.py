"""``when``: values that apply only to recipes of a certain kind.

One profile serves recipes with and without text, with any conditioner, as diffusion or as flow::

    when:
      - if: {text: {not: null}}                          # the recipe reads reports
        set: {text: {encoder: {name: minilm}, width: 384}}
      - if: {conditioner.name: [ella, ccella]}
        set: {conditioner: {width: 64}}
      - if: {diffusion.schedule: rectified_flow}
        set: {sample: {sampler: euler, steps: 20}}

A condition is a dotted key and a value, a list of values (any of them), or ``{not: ...}`` around
either; a clause applies when all its conditions hold. ``null`` is a key that is absent or null; a
key that no file sets has the model's default. The clauses of a file are judged in order, each
seeing what the earlier ones set, after the file's own plain keys and after every ``--set``. What
they set ranks with the file's own values: later files overrule it, ``--set`` overrules all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel

from voxella.errors import UserError
from voxella.plugins.component import Component
from voxella.recipe.layers import FILE_KEYS, Document, merge
from voxella.recipe.shape import block_at, default_at, keys_of, nearest
from voxella.recipe.yaml_lines import Data, Node, locate, plain
from voxella.wording import named, quoted

__all__ = ["Clause", "clauses", "judge"]


@dataclass(frozen=True)
class Clause:
    """``set`` applies where every condition ``{dotted key: test}`` holds."""

    conditions: dict[str, Node]
    set: Node


def clauses(documents: Iterable[Document]) -> list[Clause]:
    """Return the clauses of all documents, in order.

    Raises:
        UserError: For a malformed clause or a condition on a key that no recipe can have.
    """
    found: list[Clause] = []
    for document in documents:
        if document.when is None:
            continue
        if not isinstance(document.when.value, list):
            raise UserError(
                f"{document.when.mark}: when: not a list", expected="a list of {if: ..., set: ...}"
            )
        found += [_clause(entry) for entry in document.when.value]
    return found


def _clause(entry: Node) -> Clause:
    conditions, values = entry.get("if"), entry.get("set")
    if (
        conditions is None
        or values is None
        or not isinstance(conditions.value, dict)
        or not isinstance(values.value, dict)
        or set(entry.value if isinstance(entry.value, dict) else ()) != {"if", "set"}
    ):
        raise UserError(
            f"{entry.mark}: when: received {quoted(plain(entry))}",
            expected="{if: {dotted.key: value, or a list of values, or {not: ...}}, set: {...}}",
        )
    for key in FILE_KEYS:
        if (wrong := values.get(key)) is not None:
            raise UserError(
                f"{wrong.mark}: when: set cannot hold {quoted(key)}, which belongs to a file"
            )
    for key, test in conditions.value.items():
        _check_key(key, test)
        _check_test(key, test)
    return Clause(conditions.value, values)


def _check_key(key: str, test: Node) -> None:
    """Refuse a condition that could never hold because its key is misspelt."""
    parts = key.split(".")
    for step, part in enumerate(parts):
        block = block_at(tuple(parts[:step]))
        if block is None or issubclass(block, Component):
            return  # inside `deepspeed` or a component's arguments any key may stand
        if not part.isdecimal() and part not in keys_of(block):
            close = nearest(part, keys_of(block))
            raise UserError(
                f"{test.mark}: when: no recipe has a key {quoted(key)}",
                expected=", ".join(keys_of(block)),
                remedy=None
                if close is None
                else f"did you mean {'.'.join([*parts[:step], close])}?",
            )


def _check_test(key: str, test: Node) -> None:
    inner = test
    if isinstance(test.value, dict):
        negated = test.get("not")
        if negated is None or len(test.value) != 1:
            raise UserError(
                f"{test.mark}: when: {named(key)}: received {quoted(plain(test))}",
                expected="a value, a list, {not: ...}",
            )
        inner = negated
    options = inner.value if isinstance(inner.value, list) else [inner]
    if any(
        isinstance(option.value if isinstance(option, Node) else option, dict | list)
        for option in options
    ):
        raise UserError(
            f"{test.mark}: when: {named(key)}: only words, numbers, booleans and null can be "
            "compared"
        )


def judge(tree: Node, found: Iterable[Clause]) -> Node:
    """Return ``tree`` with every clause that holds laid on it."""
    for clause in found:
        if all(_holds(tree, key, test) for key, test in clause.conditions.items()):
            tree = merge(tree, clause.set)
    return tree


def _holds(tree: Node, key: str, test: Node) -> bool:
    value = _value_at(tree, key)
    negated = test.get("not") if isinstance(test.value, dict) else None
    wanted = plain(negated if negated is not None else test)
    options = wanted if isinstance(wanted, list) else [wanted]
    return any(_same(value, option) for option in options) is (negated is None)


def _value_at(tree: Node, key: str) -> Data:
    path = tuple(key.split("."))
    node, depth = locate(tree, path)
    if depth == len(path):
        return plain(node)
    if depth > 0 and node.value is None:
        return None
    default = default_at(path)
    return default.model_dump(mode="json") if isinstance(default, BaseModel) else default


def _same(value: Data, option: Data) -> bool:
    # 1 == True in Python, not in a recipe
    return value == option and isinstance(value, bool) is isinstance(option, bool)
