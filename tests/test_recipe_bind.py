"""Component blocks against builders' signatures, with builders made for the purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from voxella.errors import UserError
from voxella.recipe.bind import Bound, bind
from voxella.recipe.yaml_lines import parse_text

if TYPE_CHECKING:
    from torch import nn  # as builders do: a type that only type checkers see


def build_text(
    *,
    text_dim: int,
    num_classes: int,
    width: int = 8,
    rate: float = 0.5,
    mode: Literal["each", "last"] = "each",
    flag: bool = False,
    sizes: Sequence[int] = (1, 2),
    pair: tuple[int, int] = (1, 2),
    unseen: nn.Module | None = None,
) -> nn.Module:
    raise AssertionError("binding never builds")


def build_files(
    *, weights: Path, extra: Path | None = None, many: list[Path] | None = None
) -> None:
    raise AssertionError("binding never builds")


def build_any_text(*, text_dim: int | None) -> None:
    raise AssertionError("binding never builds")


class BuiltByClass:
    def __init__(self, *, depth: int) -> None:
        raise AssertionError("binding never builds")


BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("conditioners", "text"): build_text,
    ("conditioners", "any_text"): build_any_text,
    ("autoencoders", "files"): build_files,
    ("text_encoders", "files"): build_files,
    ("importers", "files"): build_files,
    ("observers", "files"): build_files,
    ("backbones", "by_class"): BuiltByClass,
}


def lookup(kind: str, name: str) -> Callable[..., Any]:
    if (kind, name) not in BUILDERS:
        raise UserError(f"no plugin {name!r} among the {kind}", expected="text")
    return BUILDERS[kind, name]


def bound(text: str) -> Bound:
    return bind(parse_text(text, "r.yaml", Path("/recipes")), lookup)


def problems(text: str) -> list[str]:
    return [str(problem) for problem in bound(text).problems]


def conditioner(arguments: str) -> list[str]:
    return problems(f"text: {{width: 3}}\nconditioner:\n  name: text\n  {arguments}\n")


def test_legal_arguments_arrive_with_their_declared_types() -> None:
    got = bound(
        "text: {width: 3}\nconditioner: {name: text, width: 4, rate: 1, mode: last, sizes: [3],"
        " pair: [1, 2], flag: true, unseen: anything}\n"
    )
    assert got.problems == []
    arguments = got.arguments["conditioner",]
    assert arguments == {
        "width": 4,
        "rate": 1.0,
        "mode": "last",
        "sizes": [3],
        "pair": (1, 2),
        "flag": True,
        "unseen": "anything",
    }
    assert isinstance(arguments["rate"], float)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("widht: 4", "conditioner.widht: text has no such argument; did you mean width?"),
        ("zzz: 4", "conditioner.zzz: text has no such argument; expected: width, rate, mode,"),
        (
            "width: '4'",
            "conditioner.width: received '4'; expected: a whole number (text declares int)",
        ),
        ("width: true", "conditioner.width: received true; expected: a whole number"),
        ("width: 4.5", "conditioner.width: received 4.5; expected: a whole number"),
        ("width: null", "conditioner.width: received null; expected: a whole number"),
        (
            "rate: fast",
            "conditioner.rate: received 'fast'; expected: a number (text declares float)",
        ),
        ("flag: 1", "conditioner.flag: received 1; expected: true or false"),
        (
            "mode: eahc",
            "conditioner.mode: received 'eahc'; expected: 'each' or 'last'; did you mean each?",
        ),
        ("sizes: [1, b]", "conditioner.sizes.1: received 'b'; expected: a whole number"),
        ("sizes: 3", "conditioner.sizes: received 3; expected: "),
        (
            "text_dim: 4",
            "conditioner.text_dim: the engine supplies it (width of the text features (int)); "
            "a recipe cannot set it",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_its_line(argument: str, message: str) -> None:
    (problem,) = conditioner(argument)
    assert problem.startswith(f"r.yaml:4: {message}")


def test_a_wired_argument_is_refused_even_where_the_builder_does_not_declare_it() -> None:
    (problem,) = problems("backbone: {name: by_class, depth: 1, vectors: {}}\n")
    assert "backbone.vectors: the engine supplies it" in problem


def test_required_arguments_are_asked_for() -> None:
    assert problems("autoencoder: {name: files}\nbackbone: {name: by_class}\n") == [
        "r.yaml:1: autoencoder.weights: missing: files needs weights (Path)",
        "r.yaml:2: backbone.depth: missing: by_class needs depth (int)",
    ]


def test_paths_are_relative_to_the_file_and_become_paths() -> None:
    got = bound(
        "autoencoder: {name: files, weights: ../w.pt, many: [a, /b]}\n"
        "data: {importer: {name: files, weights: x/../y, extra: null}}\n"
        "observers:\n  - {name: files, weights: z}\n"
    )
    assert got.problems == []
    assert got.arguments == {
        ("autoencoder",): {"weights": Path("/w.pt"), "many": [Path("/recipes/a"), Path("/b")]},
        ("data", "importer"): {"weights": Path("/recipes/y"), "extra": None},
        ("observers", 0): {"weights": Path("/recipes/z")},
    }


def test_every_slot_asks_for_its_own_kind() -> None:
    text = (
        "data: {importer: {name: x}}\nautoencoder: {name: x}\ntext: {encoder: {name: x}}\n"
        "conditioner: {name: x}\nbackbone: {name: x}\n"
        "observers: [{name: files, weights: w}, {name: x}]\n"
    )
    got = problems(text)
    assert [line.split(" ")[1] for line in got] == [
        "data.importer.name:",
        "autoencoder.name:",
        "text.encoder.name:",
        "conditioner.name:",
        "backbone.name:",
        "observers.1.name:",
    ]
    kinds = ["importers", "autoencoders", "text_encoders", "conditioners", "backbones", "observers"]
    for line, kind in zip(got, kinds, strict=True):
        assert f"no plugin 'x' among the {kind}; expected: text" in line


def test_a_conditioner_that_reads_reports_needs_a_text_block() -> None:
    (problem,) = problems("text: null\nconditioner: {name: text}\n")
    assert problem.startswith(
        "r.yaml:2: conditioner.name: text reads reports, but the recipe has no text"
    )
    assert problems("text: null\nconditioner: {name: any_text}\n") == []


@pytest.mark.parametrize("block", ["3", "[1]", "{width: 3}", "{name: 3}", "null"])
def test_what_is_no_component_is_left_to_the_model(block: str) -> None:
    assert bound(f"conditioner: {block}\n") == Bound()
