"""The plain published model that ours is timed against computes the same function."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark import random_batch, sized_recipe
from memory import saved_gib
from reference import Reference, ReferenceTraining
from side import NARROW
from side_by_side import summary

import voxella
from voxella.ldm.batch import Batch
from voxella.ldm.build import LatentDiffusion
from voxella.recipe.model import Recipe

RECIPE = Path(__file__).parents[1] / "recipes/ccella.yaml"
TINY = (
    *NARROW,
    *("latent.size=[8,8,8]", "prepare.size=[32,32,32]", "text.max_tokens=12"),
    *("backbone.channels=[32,64]", "backbone.attention=[false,true]", "conditioner.queries=16"),
)


@pytest.fixture(scope="module")
def both() -> tuple[LatentDiffusion, Recipe, Batch]:
    arguments = argparse.Namespace(recipe=RECIPE, size="small", batch=2, overrides=[])
    recipe = sized_recipe(arguments, *TINY)
    model = voxella.build_model(recipe)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if not parameter.any():  # the zero-initialised ends
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model, recipe, random_batch(recipe, 2, torch.device("cpu"))


def test_both_predict_the_same(both: tuple[LatentDiffusion, Recipe, Batch]) -> None:
    model, recipe, batch = both
    plain = Reference(model, recipe)
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in model.parameters())
    assert batch.text_features is not None
    assert batch.spacing_mm is not None
    with torch.no_grad():
        theirs, logits = plain(
            batch.latents, batch.timesteps, batch.text_features, batch.spacing_mm
        )
        told = model.condition(
            timesteps=batch.timesteps,
            text_features=batch.text_features,
            label=batch.label,
            spacing_mm=batch.spacing_mm,
        )
        ours = model.predict(batch.latents, batch.timesteps, told)
    assert float(theirs.std()) > 0.01
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(told.class_logits, logits, rtol=1e-4, atol=1e-5)


def test_both_lose_the_same_and_have_the_same_gradients(
    both: tuple[LatentDiffusion, Recipe, Batch],
) -> None:
    model, recipe, batch = both
    plain = Reference(model, recipe)
    reconstruction, focal = ReferenceTraining(plain, model, recipe).losses(batch)
    losses = model(batch)
    torch.testing.assert_close(losses["reconstruction"], reconstruction, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["class"], focal, rtol=1e-4, atol=1e-6)
    torch.autograd.backward(reconstruction + recipe.loss.class_weight * focal)
    torch.autograd.backward(losses["total"])

    def norm(module: torch.nn.Module) -> float:
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(grads))

    assert norm(model) == pytest.approx(norm(plain), rel=1e-3)
    model.zero_grad()


def test_what_a_step_saves_is_counted_without_weights() -> None:
    layer = torch.nn.Linear(1024, 1024, bias=False)
    x = torch.randn(256, 1024)

    def step() -> None:
        torch.autograd.backward(layer(x).sum())

    assert saved_gib(step) == pytest.approx(256 * 1024 * 4 / 2**30)


class _Lived:
    def __init__(self, cpu: list[float], peak: float) -> None:
        self.steps = [{"cpu": value, "wall": 2 * value, "value": 1.0} for value in cpu]
        self.facts = {
            "parameters": 7,
            "libraries_gib": 0.5,
            "states_gib": 1.0,
            "activations_gib": 1.0,
            "peak_gib": peak,
        }


def test_ratios_are_medians_of_paired_steps() -> None:
    lived: dict[str, Any] = {
        "reference": [_Lived([4.0, 4.0, 9.0], 5.0)],
        "ours": [_Lived([2.0, 4.0, 3.0], 4.5)],
        "ours_bf16": [_Lived([1.0, 1.0, 1.0], 2.5)],
    }
    told = summary(lived)
    assert told["parameters"] == 7
    assert told["ours"]["times_as_fast"] == 2.0
    assert told["ours"]["from_to"] == [1.0, 3.0]
    assert told["ours"]["of_its_peak"] == 0.9
    assert told["ours"]["over_account"] == 2.0
    assert told["ours_bf16"]["times_as_fast"] == 4.0
    assert told["reference"]["cpu_seconds"] == 4.0
    assert told["reference"]["wall_seconds"] == 8.0
