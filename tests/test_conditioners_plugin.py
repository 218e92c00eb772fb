"""The builders: parameter counts, signatures, light imports, refusals."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing

import pytest
import torch
from torch import nn

from voxella.errors import UserError
from voxella_conditioners.plugin import voxella_factory
from voxella_conditioners.text_plugin import voxella_factory as text_factory

NAMES = ["none", "radclass", "ella", "ccella", "shared", "first", "last"]
ELLA = {"width": 768, "queries": 256, "blocks": 6, "heads": 8}
TEXT_RUN = {
    "path": ...,
    "dtype": "bfloat16",
    "device": "auto",
    "batch_size": 8,
    "quantize": "none",
}
WIRED_TEXT = {"max_tokens": ..., "truncation": ..., "padding": ..., "tokens_only": False}

# Counted on the released modules at the paper's sizes: adapter with its heads, then what sits
# outside the adapter (joining layer, or the head on the last block).
COUNTS = {
    "ella": (68_540_928, 0),
    "ccella": (370_535_436, 26),
    "shared": (118_873_346, 26),
    "first": (118_873_346, 0),
    "last": (68_540_928, 50_332_418),
}


def _paper_sized(name: str) -> nn.Module:
    builder = voxella_factory(name)
    assert builder is not None
    with torch.device("meta"):
        built = builder(text_dim=4096, num_classes=2)
    assert isinstance(built, nn.Module)
    return built


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_equal_the_released_modules(name: str) -> None:
    model = _paper_sized(name)
    counted = {name: sum(p.numel() for p in m.parameters()) for name, m in model.named_children()}
    outside = counted.get("join", 0) + (counted["heads"] if name == "last" else 0)
    assert (sum(counted.values()) - outside, outside) == COUNTS[name]
    assert sum(counted.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("factory", "name", "expected"),
    [
        (voxella_factory, "none", {}),
        (voxella_factory, "radclass", {"num_classes": ...}),
        (
            voxella_factory,
            "ella",
            {"text_dim": ..., "num_classes": ..., **ELLA, "class_vector": False},
        ),
        *(
            (
                voxella_factory,
                name,
                {"text_dim": ..., "num_classes": ..., **ELLA, "head_hidden": 256},
            )
            for name in ("ccella", "shared", "first", "last")
        ),
        (text_factory, "t5", {**TEXT_RUN, **WIRED_TEXT, "stream": "auto"}),
        (text_factory, "hf", {**TEXT_RUN, **WIRED_TEXT}),
        (voxella_factory, "cross_attention", {"text_dim": ..., "masked": True}),
        (voxella_factory, "class_token", {"num_classes": ..., "width": 512, "weights": None}),
        (
            text_factory,
            "clip",
            {
                **WIRED_TEXT,
                "path": ...,
                "cyclic": False,
                "dtype": "float32",
                "device": "auto",
                "batch_size": 16,
            },
        ),
        (text_factory, "minilm", {**WIRED_TEXT, "batch_size": 16}),
    ],
)
def test_builders_have_keyword_only_annotated_arguments(
    factory: typing.Callable[[str], typing.Callable[..., object]],
    name: str,
    expected: dict[str, object],
) -> None:
    builder = factory(name)
    parameters = inspect.signature(builder).parameters
    defaults = {k: ... if p.default is p.empty else p.default for k, p in parameters.items()}
    assert defaults == expected
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
    assert set(typing.get_type_hints(builder)) == {*expected, "return"}


@pytest.mark.parametrize("factory", [voxella_factory, text_factory])
def test_other_names_are_not_ours(factory: typing.Callable[[str], object]) -> None:
    assert factory("elephant") is None


def test_listing_imports_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, typing\n"
        "import voxella_conditioners.plugin as a, voxella_conditioners.text_plugin as b\n"
        "for name in ('ella', 'ccella'): typing.get_type_hints(a.voxella_factory(name))\n"
        "typing.get_type_hints(b.voxella_factory('t5'))\n"
        "print([m for m in ('torch', 'transformers', 'monai') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("ella", {"heads": 7}, r"ella: 7 heads do not divide width 16\n  expected: heads: 1, 2, 4"),
        ("first", {"blocks": 0}, r"first: blocks=0\n  expected: 1 or more"),
        ("ccella", {"head_hidden": -1}, "ccella: head_hidden=-1"),
        ("shared", {"num_classes": 0, "text_dim": 3}, "shared: num_classes=0"),
        ("last", {"text_dim": None}, "last reads reports, and the recipe has no text block"),
    ],
)
def test_impossible_sizes_are_refused(name: str, changes: dict[str, object], message: str) -> None:
    builder = voxella_factory(name)
    assert builder is not None
    with pytest.raises(UserError, match=message):
        builder(**{"text_dim": 8, "num_classes": 2, "width": 16, "heads": 4, **changes})


def test_radclass_needs_a_class() -> None:
    builder = voxella_factory("radclass")
    assert builder is not None
    with pytest.raises(UserError, match="radclass: num_classes=0"):
        builder(num_classes=0)
