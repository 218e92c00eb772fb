"""Steps ask the device for no number while they run: each such question would make it wait.

Under fake tensors, which have shapes and no values, asking for a value raises.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from benchmark import random_batch, sized_recipe
from side import NARROW
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import voxella
from voxella.diffusion.names import Prediction
from voxella.diffusion.samplers import SAMPLERS, fitting, make_sampler
from voxella.diffusion.sampling import sample
from voxella.diffusion.schedule import Schedule, make_schedule
from voxella.ldm.batch import Batch
from voxella.ldm.build import LatentDiffusion

RECIPES = Path(__file__).parents[1] / "recipes"
TINY = (
    *NARROW,
    *("latent.size=[8,8,8]", "prepare.size=[32,32,32]", "text.max_tokens=12"),
    *("backbone.channels=[32,64]", "backbone.attention=[false,true]", "conditioner.queries=16"),
)


@pytest.fixture(scope="module")
def model_and_batch() -> tuple[LatentDiffusion, Batch]:
    arguments = argparse.Namespace(
        recipe=RECIPES / "ccella.yaml", size="small", batch=2, overrides=[]
    )
    recipe = sized_recipe(arguments, *TINY)
    return voxella.build_model(recipe), random_batch(recipe, 2, torch.device("cpu"))


def _fake(mode: FakeTensorMode, batch: Batch, *, masked: bool) -> Batch:
    made = {
        name: mode.from_tensor(value)
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor)
    }
    assert batch.text_features is not None
    mask = torch.ones(batch.text_features.shape[:2], dtype=torch.bool)
    made |= {"text_mask": mode.from_tensor(mask)} if masked else {}
    return Batch(**{**vars(batch), **made})


def test_asking_a_fake_tensor_for_its_value_raises() -> None:
    """Or the tests below would pass whatever is asked."""
    with FakeTensorMode() as mode, pytest.raises(DataDependentOutputException):
        bool(mode.from_tensor(torch.ones(3, dtype=torch.bool)).all())


@pytest.mark.parametrize("masked", [False, True])
def test_a_training_step_asks_for_no_value(
    model_and_batch: tuple[LatentDiffusion, Batch], masked: bool
) -> None:
    """Forward, losses and backward, with every token seen and with some masked."""
    model, batch = model_and_batch
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        losses = model(_fake(mode, batch, masked=masked))
        assert losses["total"].shape == ()
        torch.autograd.grad(losses["total"], [p for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("masked", [False, True])
def test_a_denoising_step_asks_for_no_value(
    model_and_batch: tuple[LatentDiffusion, Batch], masked: bool
) -> None:
    model, batch = model_and_batch
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = _fake(mode, batch, masked=masked)
        told = model.condition(
            timesteps=fake.timesteps,
            text_features=fake.text_features,
            text_mask=fake.text_mask,
            label=fake.label,
            spacing_mm=fake.spacing_mm,
        )
        predicted = model.predict(fake.latents, fake.timesteps, told)
        assert predicted.shape == batch.latents.shape


def _schedule(name: str) -> Schedule:
    return make_schedule(
        "cosine" if name in fitting("cosine") else "rectified_flow",
        steps=20,
        beta_start=0.0015,
        beta_end=0.0195,
    )


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_sampler_asks_for_no_value(name: str) -> None:
    """All of its moves; its plan is made of numbers that lie on the host."""
    sampler = make_sampler(name, _schedule(name), 20 if name == "ddpm" else 4)
    kind: Prediction = "epsilon" if name in fitting("cosine") else "flow"
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        x = mode.from_tensor(torch.zeros(2, 4, 4, 4, 4))
        made = sample(sampler, lambda x, t: x * 0.5, x, prediction=kind, noise=lambda _: x.clone())
        assert made.shape == x.shape
