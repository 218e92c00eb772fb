"""The plugins' light modules: what they promise before torch is there."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, get_type_hints

import pytest

from voxella.plugins.specs import INJECTED

PLUGINS = [
    ("voxella_backbones.plugin", "backbones", ["maisi_unet", "dit3d", "ldm_unet"]),
    (
        "voxella_backbones.autoencoder_plugin",
        "autoencoders",
        ["maisi", "kl", "vq", "kl2d", "identity", "haar", "pca"],
    ),
    ("voxella_classifiers.plugin", "classifiers", ["efficientnet", "cnn"]),
]
EVERY = [(module, kind, name) for module, kind, names in PLUGINS for name in names]


def _builder(module: str, name: str) -> Callable[..., Any]:
    found = import_module(module).voxella_factory(name)
    assert callable(found)
    return found  # type: ignore[no-any-return]  # checked above


@pytest.mark.parametrize(("module", "kind", "name"), EVERY)
def test_a_builder_can_be_bound_from_a_recipe(module: str, kind: str, name: str) -> None:
    signature = inspect.signature(_builder(module, name))
    hints = get_type_hints(_builder(module, name))
    for parameter in signature.parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name
        assert parameter.name in hints
    required = {p.name for p in signature.parameters.values() if p.default is p.empty}
    assert required <= set(INJECTED[kind]), "the engine supplies whatever has no default"


@pytest.mark.parametrize(("module", "kind", "names"), PLUGINS)
def test_another_name_is_not_ours(module: str, kind: str, names: list[str]) -> None:
    assert import_module(module).voxella_factory("somebody_elses") is None


def test_listing_and_binding_import_neither_torch_nor_monai() -> None:
    code = f"""
import sys, typing
from importlib import import_module
for module, kind, names in {PLUGINS!r}:
    for name in names:
        typing.get_type_hints(import_module(module).voxella_factory(name))
print([heavy for heavy in ("torch", "monai", "diffusers", "numpy") if heavy in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
