"""The recipe of the small model: it loads, and its first stage is fitted at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from voxella.cli import main
from voxella.recipe.load import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "phantom.yaml"


def test_it_is_ccella_on_other_data() -> None:
    recipe, paper = load_recipe(RECIPE), load_recipe(RECIPE.parent / "ccella.yaml")
    assert recipe.conditioner.name == paper.conditioner.name == "ccella"
    assert recipe.data.classes == paper.data.classes
    assert recipe.diffusion.schedule == paper.diffusion.schedule
    assert recipe.loss.class_weight > 0


def test_its_components_are_fitted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--set", "data.importer.cases=8", "--set", "data.importer.workers=1"]
    command = ["train-autoencoder", str(RECIPE), "--out", str(tmp_path), *few]
    assert main(command) == 0
    weights = load_file(tmp_path / "autoencoder" / "model.safetensors")
    basis, std = weights["basis"], weights["std"]
    assert basis.shape == (20, 64)
    torch.testing.assert_close(basis @ basis.T, torch.eye(20), atol=1e-5, rtol=0)
    assert bool((std[:-1] >= std[1:]).all())
    facts = json.loads((tmp_path / "autoencoder" / "autoencoder.json").read_text())
    assert facts["steps"] == 0
    assert facts["losses"] == []
    capsys.readouterr()
    assert main(command) == 0
    assert "train-autoencoder: up to date" in capsys.readouterr().out
