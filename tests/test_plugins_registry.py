"""Plugins by name: one owner, one import, one message for every mistake of a plugin."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voxella.errors import UserError
from voxella.plugins.component import Component
from voxella.plugins.registry import build, builder, list_plugins

Install = Callable[..., None]

GOOD = """
from voxella.plugins import hookimpl
def good(*, width: int, num_classes: int, depth: int = 2) -> dict:
    return {"width": width, "num_classes": num_classes, "depth": depth}
@hookimpl
def voxella_factory(name):
    return good if name.startswith("good") else None
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a distribution with one plugin, as pip would lay it down."""

    def place(distribution: str, entry: str, source: str, kind: str = "conditioners") -> None:
        site = tmp_path / distribution
        module = entry.partition("=")[2].strip().partition(":")[0]
        info = site / f"{distribution}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n"
        )
        (info / "entry_points.txt").write_text(f"[voxella.{kind}]\n{entry}\n")
        (site / f"{module}.py").write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.syspath_prepend(site)

    return place


def refusal(kind: str, name: str) -> str:
    with pytest.raises(UserError) as caught:
        builder(kind, name)
    return str(caught.value)


def test_installed_plugin_is_listed_and_built(install: Install) -> None:
    install("stranger", "good = stranger_good", GOOD)
    (info,) = [plugin for plugin in list_plugins() if plugin.name == "good"]
    told = (info.kind, info.distribution, info.version, info.target)
    assert told == ("conditioners", "stranger", "1.5", "stranger_good")
    assert builder("conditioners", "good")(width=3, num_classes=2)["width"] == 3


def test_listing_imports_no_plugin(install: Install) -> None:
    install("stranger", "good = stranger_unimported", "raise AssertionError('imported')")
    assert "good" in {plugin.name for plugin in list_plugins()}
    assert "stranger_unimported" not in sys.modules


def test_one_broken_plugin_leaves_the_others_alone(install: Install) -> None:
    install("broken", "bad = broken_module", "import a_package_that_nobody_has")
    install("stranger", "good = stranger_beside", GOOD)
    assert callable(builder("conditioners", "good"))
    message = refusal("conditioners", "bad")
    for told in ("bad", "broken 1.5", "broken_module", "ModuleNotFoundError", "nobody_has"):
        assert told in message


@pytest.mark.parametrize("source", ["raise SystemExit(3)", "1 / 0", "def broken(:"])
def test_whatever_an_import_raises_is_one_message(install: Install, source: str) -> None:
    install("broken", "bad = broken_other", source)
    assert "importing it failed" in refusal("conditioners", "bad")


def test_two_owners_are_refused_by_name(install: Install) -> None:
    install("first_owner", "good = first_module", GOOD)
    install("second_owner", "good = second_module", GOOD)
    message = refusal("conditioners", "good")
    assert "first_owner 1.5 (first_module)" in message
    assert "second_owner 1.5 (second_module)" in message
    assert "uninstall one of them" in message


def test_a_stranger_cannot_take_a_built_in_name(install: Install) -> None:
    install("thief", "ccella = thief_module", GOOD)
    message = refusal("conditioners", "ccella")
    assert "thief 1.5" in message
    assert "voxella " in message


def test_misspelt_hook_is_named(install: Install) -> None:
    install("typist", "typo = typist_module", GOOD.replace("voxella_factory", "voxella_factry"))
    message = refusal("conditioners", "typo")
    assert "typo" in message
    assert "no hook 'voxella_factry'; did you mean 'voxella_factory'?" in message


def test_hook_with_another_argument_is_named(install: Install) -> None:
    install("typist", "typo = typist_args", GOOD.replace("factory(name)", "factory(nam)"))
    assert "{'nam'}" in refusal("conditioners", "typo")


def test_a_module_without_hooks_is_told_how(install: Install) -> None:
    install("empty", "bare = empty_module", "x = 1")
    message = refusal("conditioners", "bare")
    assert "implements no hook 'voxella_factory'" in message
    assert "from voxella.plugins import hookimpl" in message


def test_none_is_no_builder(install: Install) -> None:
    install("stranger", "other = stranger_none", GOOD)
    assert "returned None for 'other'" in refusal("conditioners", "other")


def test_a_factory_that_raises_names_its_plugin(install: Install) -> None:
    install("stranger", "good = stranger_raises", GOOD.replace("return good", "1 / 0; return good"))
    message = refusal("conditioners", "good")
    assert "calling its voxella_factory failed: ZeroDivisionError" in message


@pytest.mark.parametrize("hidden", ["**options", "*sizes"])
def test_a_builder_says_every_argument(install: Install, hidden: str) -> None:
    install(
        "vague",
        "good = vague_module",
        GOOD.replace("*, width: int", hidden).replace(
            f"{hidden}, num_classes: int, depth: int = 2", hidden
        ),
    )
    message = refusal("conditioners", "good")
    assert f"its builder takes {hidden}" in message


def test_unknown_name_and_kind_name_the_nearest() -> None:
    message = refusal("conditioners", "cella")
    assert "did you mean 'ccella'?" in message
    assert "radclass" in message
    assert "voxella plugins" in message
    assert "did you mean 'backbones'?" in refusal("backbone", "maisi_unet")


@pytest.mark.parametrize("target", ["made", "made:good", "made:Plugin"])
def test_environment_admits_modules_objects_and_builders(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made.py").write_text(
        GOOD + "class _Plugin:\n    @hookimpl\n    def voxella_factory(self, name):\n"
        "        return good\nPlugin = _Plugin()\n"
    )
    monkeypatch.delitem(sys.modules, "made", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VOXELLA_PLUGINS", f" conditioners:good = {target} ,")
    assert builder("conditioners", "good").__name__ == "good"
    (info,) = [plugin for plugin in list_plugins() if plugin.name == "good"]
    assert (info.distribution, info.version) == ("VOXELLA_PLUGINS", "")


def test_environment_clashes_like_any_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELLA_PLUGINS", "conditioners:none=my_module:none")
    message = refusal("conditioners", "none")
    assert "VOXELLA_PLUGINS (my_module:none)" in message


def test_environment_collects_every_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "VOXELLA_PLUGINS",
        "conditioner:a=m,conditioners:b,conditioners:=m,conditioners:d=m:,backbones:e=my-mod",
    )
    with pytest.raises(UserError) as caught:
        list_plugins()
    message = str(caught.value)
    assert "no kind 'conditioner'; did you mean 'conditioners'?" in message
    for entry in ("'conditioners:b'", "'conditioners:=m'", "'conditioners:d=m:'", "e=my-mod'"):
        assert f"{entry} is not kind:name=module:attr" in message.replace("'backbones:", "")


def test_build_passes_arguments_and_declared_wires(install: Install) -> None:
    install("stranger", "good = stranger_build", GOOD)
    made = build("conditioners", component(width=8), num_classes=3, text_dim=4096)
    assert made == {"width": 8, "num_classes": 3, "depth": 2}


def test_build_collects_a_recipes_mistakes(install: Install) -> None:
    install("stranger", "good = stranger_mistakes", GOOD)
    with pytest.raises(UserError) as caught:
        build("conditioners", component(widht=8, num_classes=2), num_classes=3)
    message = str(caught.value)
    assert "no argument 'widht'; did you mean 'width'?" in message
    assert "the engine supplies 'num_classes'" in message
    assert "argument 'width' is missing" in message
    assert "expected: width, depth" in message


def test_a_builders_own_type_error_passes(install: Install) -> None:
    install("stranger", "good = stranger_type_error", GOOD.replace("return {", "return len(3), {"))
    with pytest.raises(TypeError, match="has no len"):
        build("conditioners", component(width=8), num_classes=3)


def component(**arguments: Any) -> Component:
    return Component(name="good", **arguments)


def test_finding_and_listing_import_no_torch() -> None:
    code = (
        "import sys; from voxella.plugins.registry import builder, list_plugins; "
        "builders = [builder(p.kind, p.name) for p in list_plugins()]; "
        "heavy = {'torch', 'monai', 'transformers', 'deepspeed'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
