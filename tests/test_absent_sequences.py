"""Cases that lack an optional sequence: prepared, encoded and trained on what they have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stacked_run import LACKING, stacked_recipe, stacked_run
from tiny_run import encoded_run, tiny_recipe
from torch import Tensor

from voxella.cache.latents import LatentCache
from voxella.case import Manifest
from voxella.check.quick import quick_check
from voxella.check.settings import CheckSettings
from voxella.diffusion.losses import reconstruction_loss
from voxella.engine.order import SampleKey
from voxella.errors import UserError
from voxella.ldm.batch import Batch
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.build import build_model
from voxella.ldm.export import load_model
from voxella.ldm.module import LatentDiffusion
from voxella.ldm.scale import exact_scale
from voxella.ldm.train import train
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders

ADC = [2, 3]  # its channels: two of each sequence


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Folders]:
    return stacked_run(tmp_path_factory.mktemp("stacked"))


def builder_of(recipe: Recipe, folders: Folders) -> LatentBatchBuilder:
    cases = {case.id: case for case in Manifest.read(folders.prepared)}
    latents = LatentCache.open(folders.latents, recipe.latent)
    return LatentBatchBuilder(BatchSettings.of(recipe), cases, latents, None, scale=1.0)


def test_a_case_without_it_is_prepared_and_encoded_as_it_is(run: tuple[Recipe, Folders]) -> None:
    recipe, folders = run
    prepared = Manifest.read(folders.prepared)
    assert {case.id for case in prepared if "adc" not in case.images} == set(LACKING)
    cache = LatentCache.open(folders.latents, recipe.latent)
    assert cache.has_absent
    for case in prepared:
        lacks = case.id in LACKING
        assert cache.present(case.id).tolist() == [True, True, not lacks, not lacks]
        assert bool((cache.mean(case.id)[ADC] == 0).all()) == lacks
        assert bool(cache.mean(case.id)[:2].any())


def test_statistics_are_of_what_is_there(run: tuple[Recipe, Folders]) -> None:
    recipe, folders = run
    cache = LatentCache.open(folders.latents, recipe.latent)
    train_ids = [case.id for case in Manifest.read(folders.prepared).split("train")]
    pairs = {i: [part.double().numpy() for part in cache.read(i)] for i in train_ids}

    def values(channels: list[int], part: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        there = [(i, c) for i in train_ids for c in channels if c < 2 or i not in LACKING]
        return np.concatenate([pairs[i][part][c].ravel() for i, c in there])

    def factor(channels: list[int]) -> float:
        noise = np.exp(2 * values(channels, 1)).mean()
        return float(1 / np.sqrt(values(channels, 0).var() + noise))

    found = cache.statistics
    assert found.scale == pytest.approx(factor([0, 1, 2, 3]), rel=1e-9)
    latent = recipe.latent.model_copy(update={"scale_per": "sequence"})
    first, second = factor([0, 1]), factor(ADC)
    wanted = pytest.approx((first, first, second, second), rel=1e-9)
    assert exact_scale(latent, 2, found) == wanted


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_the_loss_counts_where_a_sequence_is(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.randn(2, 4, 3, 2, 2, generator=generator)
    predicted = torch.randn(wanted.shape, generator=generator).requires_grad_()
    present = torch.tensor([[True] * 4, [True, True, False, False]])
    per_case = reconstruction_loss(kind, predicted, wanted, present)  # type: ignore[arg-type]
    error = (predicted.detach() - wanted).double().numpy()
    error = np.abs(error) if kind == "l1" else error**2
    assert per_case.tolist() == pytest.approx([error[0].mean(), error[1, :2].mean()], rel=1e-6)
    (gradient,) = torch.autograd.grad(per_case.sum(), predicted)
    assert bool((gradient[1, 2:] == 0).all())
    assert bool((gradient[1, :2] != 0).all())
    assert bool((gradient[0] != 0).all())


class Seen(torch.nn.Module):
    """Stands for the backbone: keeps what it is given, and answers with a parameter."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.answer = torch.nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor, timesteps: Tensor, conditioning: object) -> Tensor:
        self.seen = x.detach()
        return self.answer.expand_as(x)


def batch_and_model(recipe: Recipe, folders: Folders) -> tuple[Batch, LatentDiffusion, Seen]:
    batch = builder_of(recipe, folders).make([SampleKey("c0", 0), SampleKey("c1", 0)])
    model = build_model(recipe)
    backbone = Seen(tuple(batch.latents.shape))
    model.backbone = backbone
    return batch, model, backbone


def test_the_network_sees_zeros_there_and_learns_nothing_from_there(
    run: tuple[Recipe, Folders],
) -> None:
    batch, model, backbone = batch_and_model(*run)
    assert batch.present is not None
    assert batch.present.tolist() == [[True] * 4, [True, True, False, False]]
    losses = model(batch)
    assert bool((backbone.seen[1, ADC] == 0).all())
    assert bool((backbone.seen[1, :2] != 0).all())
    losses["total"].backward()
    gradient = backbone.answer.grad
    assert gradient is not None
    assert bool((gradient[1, ADC] == 0).all())
    assert bool(gradient[1, :2].any())

    # What stands in an absent channel changes nothing at all.
    other = batch.latents.clone()
    other[1, ADC] = 17.0
    again = model(replace(batch, latents=other))
    assert torch.equal(again["total"], losses["total"])
    # By hand: epsilon is asked for, the answer is ones.
    error = (1.0 - batch.noise.double()).abs()
    by_hand = (error[0].mean() + error[1, :2].mean()) / 2
    assert float(losses["total"].detach()) == pytest.approx(float(by_hand), rel=1e-6)


def test_without_an_absent_sequence_nothing_is_masked(tmp_path: Path) -> None:
    recipe = tiny_recipe(name="base")
    batch = builder_of(recipe, encoded_run(recipe, tmp_path)).make([SampleKey("case-0", 0)])
    assert batch.present is None


def test_a_model_is_trained_validated_and_exported(run: tuple[Recipe, Folders]) -> None:
    recipe, folders = run
    more = {"validate_every": 1, "steps": 2}
    wanted = recipe.model_copy(update={"train": recipe.train.model_copy(update=more)})
    out = train(wanted, folders.run)
    assert out is not None
    assert isinstance(load_model(out).latent_scale, float)


def test_the_check_counts_them_and_refuses_what_none_has(run: tuple[Recipe, Folders]) -> None:
    recipe, folders = run
    source = Manifest.read(folders.dataset)
    settings = CheckSettings.of(recipe.data, recipe.prepare)
    told = {f.code: (f.severity, f.message, f.where) for f in quick_check(source, settings)}
    note = ("note", "2 of 6 cases lack adc, which is optional", "adc")
    assert told["image.optional-sequence"] == note
    assert "image.no-sequence" not in told
    bare = Manifest(source.folder, [case for case in source if case.id in LACKING])
    codes = {f.code: f.message for f in quick_check(bare, settings)}
    assert codes["image.no-sequence"] == "adc is optional, and none of the 2 cases has it"
    strict = CheckSettings.of(recipe.data.model_copy(update={"optional": []}), recipe.prepare)
    lines = [f for f in quick_check(source, strict) if f.code == "image.no-sequence"]
    assert {f.case for f in lines} == set(LACKING)
    assert all(f.severity == "error" for f in lines)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            ["data.optional=[t2w]"],
            "optional: t2w; expected: adc (the first of data.sequences decides",
        ),
        (["autoencoder.per_sequence=false"], "expected: with autoencoder.per_sequence: true"),
        (["evaluate.sequence=adc"], "received adc, which real cases may lack; expected: t2w"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_recipe(settings: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        stacked_recipe(Path("/nowhere"), *settings)
    assert told in str(caught.value)
