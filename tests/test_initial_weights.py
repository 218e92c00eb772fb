"""Training that starts from a file of weights: what of it decides, and what is needed of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_run import encoded_run, tiny_recipe
from torch import Tensor

import voxella
from voxella.errors import UserError
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.export import load_model
from voxella.ldm.train import train
from voxella.recipe.model import Recipe

BACKBONE = "{name: ldm_unet, channels: [8, 16], attention: [false, true], norm_groups: 4"


def _recipe(weights: Path | None = None) -> Recipe:
    named = "" if weights is None else f", weights: {weights}"
    return tiny_recipe(
        "conditioner={name: none}",
        "vectors=[]",
        "text=null",
        "backbone=null",
        f"backbone={BACKBONE}{named}}}",
        "latent.size=[4, 4]",
        "prepare.size=[16, 16]",
        "prepare.crop_mm=[128, 128]",
        name="base",
    )


def _unet(model: LatentDiffusion) -> dict[str, Tensor]:
    return model.backbone.get_submodule("unet").state_dict()


def _file(path: Path, seed: int) -> Path:
    model = voxella.build_model(_recipe())
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: torch.randn(tensor.shape, generator=generator)
        for name, tensor in _unet(model).items()
    }
    torch.save({"state_dict": state}, path)
    return path


def test_the_files_tensors_are_where_training_starts(tmp_path: Path) -> None:
    path = _file(tmp_path / "unet.pt", seed=1)
    model = voxella.build_model(_recipe(path))
    held = torch.load(path)["state_dict"]
    assert all(torch.equal(held[n], t) for n, t in _unet(model).items())


def test_a_trained_model_needs_no_file_but_its_own(tmp_path: Path) -> None:
    path = _file(tmp_path / "unet.pt", seed=1)
    recipe = _recipe(path)
    encoded_run(recipe, tmp_path / "run")
    folder = train(recipe, tmp_path / "run")
    assert folder is not None
    path.unlink()
    model = load_model(folder)
    start = _file(path, seed=1)
    held = torch.load(start)["state_dict"]
    moved = _unet(model)
    # Trained from there: near it, not at it. Drawn anew it would be about 1 away.
    distance = max(float((held[name] - moved[name]).abs().max()) for name in held)
    assert 0 < distance < 0.05


def test_what_the_file_holds_decides_and_not_where_it_lies(tmp_path: Path) -> None:
    first = _file(tmp_path / "unet.pt", seed=1)
    recipe = _recipe(first)
    encoded_run(recipe, tmp_path / "run")
    assert train(recipe, tmp_path / "run") is not None
    (weights,) = (tmp_path / "run" / "model").glob("model*.safetensors")
    before = weights.stat().st_mtime_ns
    first.rename(tmp_path / "moved.pt")
    assert train(_recipe(tmp_path / "moved.pt"), tmp_path / "run") is not None
    assert weights.stat().st_mtime_ns == before, "nothing was trained"
    _file(tmp_path / "moved.pt", seed=2)
    with pytest.raises(UserError, match=r"initial_weights"):
        train(_recipe(tmp_path / "moved.pt"), tmp_path / "run")


def test_a_missing_file_is_named_before_anything_is_built(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path / "absent.pt")
    encoded_run(recipe, tmp_path / "run")
    with pytest.raises(UserError, match=r"backbone\.weights: training starts from .*absent\.pt"):
        train(recipe, tmp_path / "run")
