"""Component blocks held to their builders' signatures before anything heavy is imported.

A block ``{name: ella, width: 64}`` promises a call ``ella(width=64, **wired)``. Here the promise is
checked against the signature: unknown arguments, missing ones, types. Values are read as strict
JSON, so that ``"3"`` or ``true`` is no number, a list may become a tuple, and a word a path.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from pydantic_core import to_json

from voxella.errors import UserError
from voxella.plugins.registry import builder as registered_builder
from voxella.plugins.specs import INJECTED
from voxella.recipe.layers import anchored
from voxella.recipe.problems import Problem, from_validation
from voxella.recipe.shape import SLOTS, KeyPath, block_at, keys_of, nearest
from voxella.recipe.yaml_lines import Node, locate, plain

__all__ = ["Bound", "Lookup", "bind"]

Lookup = Callable[[str, str], Callable[..., Any]]


@dataclass
class Bound:
    """The outcome: converted arguments by place, and everything that is wrong."""

    arguments: dict[KeyPath, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def bind(tree: Node, lookup: Lookup = registered_builder) -> Bound:
    """Hold every component of a recipe to its builder's signature.

    Args:
        tree: The merged recipe.
        lookup: ``(kind, name)`` to the builder; raises UserError for an unknown name.

    Returns:
        Arguments converted to their annotated types, relative paths made absolute, and problems.
        Blocks that are no component at all are left to the model's validation.
    """
    bound = Bound()
    text = tree.get("text")
    has_text = text is not None and text.value is not None
    for path, kind, block in _components(tree):
        name = block.get("name")
        assert name is not None, "only named blocks are components"
        try:
            make = lookup(kind, str(name.value))
        except UserError as error:
            bound.problems.append(Problem(str(name.mark), (*path, "name"), _one_line(error)))
            continue
        call = _Call(path, kind, str(name.value), block, _parameters(make))
        bound.arguments[path] = call.bind(bound.problems)
        if not has_text:
            call.refuse_without_text(bound.problems)
    return bound


def _components(tree: Node) -> Iterator[tuple[KeyPath, str, Node]]:
    """Yield (path, kind, block) of every named component block, in the recipe's order."""
    for slot, kind in SLOTS.items():
        if slot[-1] == "*":
            holder, depth = locate(tree, slot[:-1])
            items = (
                holder.value if depth == len(slot) - 1 and isinstance(holder.value, list) else []
            )
            found: list[tuple[KeyPath, Node]] = [
                ((*slot[:-1], index), item) for index, item in enumerate(items)
            ]
        else:
            node, depth = locate(tree, slot)
            found = [(slot, node)] if depth == len(slot) else []
        for path, node in found:
            name = node.get("name")
            if isinstance(node.value, dict) and name is not None and isinstance(name.value, str):
                yield path, kind, node


@dataclass(frozen=True)
class _Parameter:
    """One parameter of a builder; ``adapter`` is None where its annotation cannot be checked."""

    required: bool
    annotation: str
    adapter: TypeAdapter[Any] | None


def _parameters(make: Callable[..., Any]) -> dict[str, _Parameter]:
    """Read a builder's parameters, resolving each annotation by itself.

    One annotation that is only imported for type checkers (torch types, most often the returned
    one) must not hide the others.
    """
    inner = make.func if isinstance(make, functools.partial) else make
    inner = inner.__init__ if inspect.isclass(inner) else inspect.unwrap(inner)
    scope = getattr(inner, "__globals__", {})
    return {
        name: _Parameter(
            required=parameter.default is parameter.empty,
            annotation=_spelled(parameter),
            adapter=_adapter(parameter, scope),
        )
        for name, parameter in inspect.signature(make).parameters.items()
    }


def _spelled(parameter: inspect.Parameter) -> str:
    if parameter.annotation is parameter.empty:
        return "anything"
    annotation = parameter.annotation
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _adapter(parameter: inspect.Parameter, scope: Mapping[str, Any]) -> TypeAdapter[Any] | None:
    if parameter.annotation is parameter.empty:
        return None
    holder = SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        hint = get_type_hints(holder, globalns=dict(scope), include_extras=True)["it"]
        return TypeAdapter(hint)
    except (NameError, AttributeError, PydanticUndefinedAnnotation, PydanticSchemaGenerationError):
        return None  # a type only a type checker sees, or one pydantic has no schema for


@dataclass(frozen=True)
class _Call:
    """One block and the signature it is to fill."""

    path: KeyPath
    kind: str
    name: str
    block: Node
    parameters: Mapping[str, _Parameter]

    @property
    def open(self) -> list[str]:
        """The arguments a recipe may set."""
        return [name for name in self.parameters if name not in INJECTED[self.kind]]

    def bind(self, problems: list[Problem]) -> dict[str, Any]:
        """Return the converted arguments; add what is wrong to ``problems``."""
        assert isinstance(self.block.value, dict), "only mappings are components"
        own = self._own
        given = {key: node for key, node in self.block.value.items() if key not in own}
        missing = [
            name for name in self.open if self.parameters[name].required and name not in given
        ]
        for name in missing:
            text = f"missing: {self.name} needs {name} ({self.parameters[name].annotation})"
            problems.append(Problem(str(self.block.mark), (*self.path, name), text))
        return {key: self._value(key, node, problems) for key, node in given.items()}

    @property
    def _own(self) -> list[str]:
        """The block's own keys, which the builder is not given: its name, and some have more."""
        block = block_at(self.path)
        return ["name"] if block is None else list(keys_of(block))

    def _value(self, key: str, node: Node, problems: list[Problem]) -> Any:  # noqa: ANN401 - any type
        path = (*self.path, key)
        if key in INJECTED[self.kind]:
            text = f"the engine supplies it ({INJECTED[self.kind][key]}); a recipe cannot set it"
            problems.append(Problem(str(node.mark), path, text))
            return None
        if key not in self.parameters:
            problems.append(Problem(str(node.mark), path, self._unknown(key)))
            return None
        adapter = self.parameters[key].adapter
        if adapter is None:
            return plain(node)
        try:
            value = adapter.validate_json(
                to_json(plain(node), inf_nan_mode="constants"), strict=True
            )
        except ValidationError as error:
            problems += self._not_accepted(error, node, path)
            return None
        return anchored(value, node)

    def _unknown(self, key: str) -> str:
        known = [*self.open, *(name for name in self._own if name != "name")]
        close = nearest(key, known)
        if close is not None:
            return f"{self.name} has no such argument; did you mean {close}?"
        expected = ", ".join(known) or "no arguments"
        return f"{self.name} has no such argument; expected: {expected}"

    def _not_accepted(self, error: ValidationError, node: Node, path: KeyPath) -> list[Problem]:
        wrapped: Node = node
        for part in reversed(path):
            wrapped = Node({str(part): wrapped}, node.mark)
        declared = self.parameters[str(path[-1])].annotation
        return [
            Problem(found.where, found.path, f"{found.text} ({self.name} declares {declared})")
            for found in from_validation(error, wrapped, path)
        ]

    def refuse_without_text(self, problems: list[Problem]) -> None:
        """Refuse a conditioner that cannot do without text features in a recipe that has none."""
        parameter = self.parameters.get("text_dim")
        if self.kind != "conditioners" or parameter is None or not parameter.required:
            return
        if parameter.adapter is not None and not _accepts_none(parameter.adapter):
            text = f"{self.name} reads reports, but the recipe has no text block (text is null)"
            name = self.block.get("name") or self.block
            problems.append(Problem(str(name.mark), (*self.path, "name"), text))


def _accepts_none(adapter: TypeAdapter[Any]) -> bool:
    try:
        adapter.validate_python(None)
    except ValidationError:
        return False
    return True


def _one_line(error: UserError) -> str:
    expected = "" if error.expected is None else f"; expected: {error.expected}"
    return f"{error.problem}{expected}"
