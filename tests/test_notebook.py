"""The tutorial's notebook: its cells run in order, and its form is what notebooks have."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from tiny_run import REPOSITORY

from voxella.ldm.train import train
from voxella.recipe.load import load_recipe

NOTEBOOK = REPOSITORY / "docs" / "tutorial" / "notebook.ipynb"
BOOK: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
CELLS = ["".join(c["source"]) for c in BOOK["cells"] if c["cell_type"] == "code"]


def test_it_is_a_notebook_without_results() -> None:
    pytest.importorskip("nbformat").validate(BOOK)
    for cell in BOOK["cells"]:
        # What a cell has shown may be a patient, and is out of date with the next release.
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does and return the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


def test_every_cell_runs(
    smoke_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    demo = tmp_path / "runs" / "demo"
    # Networks begin with zeros where reports come in: a few large steps, and a report is seen.
    settings = [f"workspace={smoke_workspace}", "observers=[]", "train.steps=6"]
    settings += ["optimizer.lr=0.01"]
    recipe = load_recipe(str(REPOSITORY / "recipes" / "ccella.yaml"), ["smoke"], settings)
    train(recipe, demo)
    (demo / "prepared").symlink_to(smoke_workspace / "prepared")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    values = [run_cell(cell, names) for cell in CELLS]
    assert values[0] == (["negative", "positive"], ["t2w"])
    shown = [value for value in values if isinstance(value, figures.Figure)]
    assert len(shown) == 3
    for figure in shown:
        picture = figure.axes[0].images[0].get_array()
        assert picture.max() > picture.min()
    changed = next(value for value in values if isinstance(value, float))
    assert changed > 0
    head = next(value for value in values if isinstance(value, dict))
    assert sum(head.values()) == pytest.approx(1)
    assert sorted(values[-1]) == ["generated-s000.json", "generated-s000_t2w.nii.gz"]
    for name in values[-1]:
        assert (tmp_path / "generated" / name).is_file()
