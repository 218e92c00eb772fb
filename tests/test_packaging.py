"""What is shipped is what is written: metadata, the wheel's files, and the rules of the tree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml

from voxella.observers.specs import ObserverSpec
from voxella.plugins.registry import builder
from voxella.plugins.specs import INJECTED, KINDS

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "core/voxella",
    "plugins/conditioners/voxella_conditioners",
    "plugins/backbones/voxella_backbones",
    "plugins/classifiers/voxella_classifiers",
    "plugins/exporters/voxella_exporters",
    "plugins/importers/voxella_importers",
    "plugins/summarisers/voxella_summarisers",
    "plugins/model_exporters/voxella_model_exporters",
    "plugins/demo/voxella_demo",
)
# The small model, file by file: nothing else that is no code travels.
MODEL = "plugins/demo/voxella_demo/phantom"
CODE = ("core", "plugins", "tests", "bench", "examples")
LONGEST = 250  # lines of a module
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def declared() -> list[tuple[str, str, str]]:
    groups = PYPROJECT["project"]["entry-points"]
    return sorted((g, n, target) for g, names in groups.items() for n, target in names.items())


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_installed_entry_points_are_the_declared_ones() -> None:
    points = [p for p in distribution("voxella").entry_points if p.group != "console_scripts"]
    installed = sorted((point.group, point.name, point.value) for point in points)
    assert installed == declared(), "entry points changed: pip install -e . again"


def test_every_kind_is_a_group_and_every_group_a_kind() -> None:
    assert {group for group, _, _ in declared()} == {f"voxella.{kind}" for kind in KINDS}


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, name, _ in declared()])
def test_every_entry_point_resolves_to_a_builder(group: str, name: str) -> None:
    assert callable(builder(group.removeprefix("voxella."), name))


def test_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    subprocess.run([*command, str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read("voxella-0.1.0.dist-info/entry_points.txt").decode()
        licenses = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    expected = {
        path.relative_to((ROOT / package).parent).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".html", ".css", ".js", ".txt", ".yaml"}
        or path.name == "py.typed"
    }
    model = {
        f"voxella_demo/phantom/{p.relative_to(ROOT / MODEL)}" for p in (ROOT / MODEL).rglob("*.*")
    }
    assert {"voxella_demo/phantom/config.json", "voxella_demo/phantom/model.safetensors"} <= model
    assert names == expected | model
    assert {f"{Path(package).name}/py.typed" for package in PACKAGES} <= names
    assert "voxella = voxella.cli:main" in entry_points
    assert licenses, "the licence is not in the wheel"


def test_gitignore_does_not_hide_the_engine() -> None:
    patterns = {line.strip() for line in (ROOT / ".gitignore").read_text().splitlines()}
    assert not patterns & {"core", "core/", "/core", "/core/", "core*", "core.*"}


def test_every_ignore_names_its_code() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}
    blanket = re.compile(hooks["blanket-ignores"]["entry"])
    # Put together here, so that this file is not found itself.
    for wrong in ("noqa", "type: ignore", "noqa why", "ruff: noqa"):
        assert blanket.search(f"# {wrong}")
    for right in ("noqa: E501 - a link", "type: ignore[arg-type] # the stub is wrong"):
        assert not blanket.search(f"# {right}")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources(*CODE)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if blanket.search(line)
    ]
    assert found == []


def test_modules_are_of_one_idea() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources("core", "plugins", "bench")
        if (lines := len(path.read_text().splitlines())) > LONGEST
    }
    assert long == {}


def test_no_folder_for_what_has_no_name() -> None:
    nameless = {"utils", "util", "helpers", "common", "misc"}
    found = [p for p in sources(*CODE) if nameless & {part.lower() for part in p.parts[1:]}]
    found += [path for path in sources(*CODE) if path.stem in nameless]
    assert found == []


@pytest.mark.parametrize(
    "package", ["conditioners", "backbones", "classifiers", "exporters", "importers"]
)
def test_the_engine_cannot_import_a_plugin(package: str) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--stdin-filename"]
    snippet = f'"""Snippet."""\n\nimport voxella_{package}\n\n__all__ = ["voxella_{package}"]\n'

    def codes(path: str) -> str:
        done = subprocess.run(
            [*command, path, "-"], cwd=ROOT, input=snippet, capture_output=True, text=True
        )
        return done.stdout

    assert "TID251" in codes("core/voxella/engine/snippet.py")
    assert "Load it through voxella.plugins.registry" in codes("core/voxella/engine/snippet.py")
    assert "TID251" not in codes(f"plugins/{package}/snippet.py")


def test_docs_name_every_kind_argument_and_hook() -> None:
    text = (ROOT / "docs" / "how-to" / "plugins.md").read_text()
    words = {*KINDS, *(name for injected in INJECTED.values() for name in injected)}
    assert {word for word in words if f"`{word}`" not in text} == set()
    for name, hook in vars(ObserverSpec).items():
        if name.startswith("voxella_"):
            arguments = hook.__code__.co_varnames[1 : hook.__code__.co_argcount]
            assert f"`{name}({', '.join(arguments)})`" in text


def test_make_builds_and_checks_everything() -> None:
    commands = subprocess.run(
        ["make", "--dry-run", "--always-make", "test"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for wanted in ("ruff check", "ruff format --check", "mypy", "pytest", "constraints.txt"):
        assert wanted in commands
    assert commands.index("torch") < commands.index("--editable")
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
