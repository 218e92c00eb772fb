"""The factor on latents per set, sequence or channel: measured, kept with the model, undone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import encoded_run, tiny_recipe
from torch import Tensor

from voxella.autoencoder.statistics import latent_statistics
from voxella.cache.join_latents import merge_latents
from voxella.cache.latents import LatentCache, LatentWriter
from voxella.cache.text import TextCache
from voxella.case import Manifest
from voxella.engine.order import SampleKey
from voxella.errors import UserError
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.export import FACTS, load_facts, load_model
from voxella.ldm.generate import GenerationSettings, generate
from voxella.ldm.request import Request
from voxella.ldm.scale import exact_scale, over_channels, scale_of_draws
from voxella.ldm.train import latent_scale, train
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Latent

CPU = torch.device("cpu")


def uneven(count: int, channels: int = 4, *, seed: int = 2) -> list[tuple[Tensor, Tensor]]:
    """Cases whose channels differ in mean, spread and noise."""
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.arange(channels).reshape(-1, 1, 1, 1)
    means = [
        (1.0 + ranks) * torch.randn(channels, 3, 4, 2, generator=generator) + 3.0 * ranks
        for _ in range(count)
    ]
    return [(mean, (-1.0 + 0.3 * ranks).expand_as(mean).clone()) for mean in means]


def by_numpy(cases: list[tuple[Tensor, Tensor]], channels: list[int], *, noise: bool) -> float:
    means = np.stack([m.numpy()[channels] for m, _ in cases]).astype(np.float64)
    logs = np.stack([s.numpy()[channels] for _, s in cases]).astype(np.float64)
    variance = means.var() + (np.exp(2 * logs).mean() if noise else 0.0)
    return float(1.0 / np.sqrt(variance))


@pytest.mark.parametrize("draw", ["resample", "mean"])
def test_factors_are_those_that_numpy_finds(draw: str) -> None:
    cases, noise = uneven(5), draw == "resample"
    found = latent_statistics(cases)

    def scale(per: str) -> object:
        settings = Latent.model_validate({"channels": 4, "draw": draw, "scale_per": per})
        return exact_scale(settings, 2, found)

    assert scale("set") == pytest.approx(by_numpy(cases, [0, 1, 2, 3], noise=noise), rel=1e-12)
    assert scale("set") == (found.scale if noise else found.scale_of_means)
    first, second = (by_numpy(cases, c, noise=noise) for c in ([0, 1], [2, 3]))
    assert scale("sequence") == pytest.approx((first, first, second, second), rel=1e-12)
    each = [by_numpy(cases, [c], noise=noise) for c in range(4)]
    assert scale("channel") == pytest.approx(tuple(each), rel=1e-12)


def test_factors_of_a_batch_are_those_that_numpy_finds() -> None:
    draws = torch.stack([mean for mean, _ in uneven(3)])
    settings = Latent(channels=4, scale_per="sequence", scale="first_batch")
    values = draws.numpy().astype(np.float64)
    first, second = (1 / values[:, c].std(ddof=1) for c in (slice(0, 2), slice(2, 4)))
    wanted = pytest.approx((first, first, second, second), rel=1e-12)
    assert scale_of_draws(settings, 2, draws) == wanted
    whole = settings.model_copy(update={"scale_per": "set"})
    assert scale_of_draws(whole, 2, draws) == float(1.0 / draws.double().std())


def test_a_channel_that_does_not_vary_has_no_factor() -> None:
    flat = [(mean.clone().index_fill_(0, torch.tensor([2]), 1.0), None) for mean, _ in uneven(2)]
    settings = Latent(channels=4, scale_per="channel")
    with pytest.raises(UserError, match=r"channels 2 do not vary.*\n.*scale_per=set"):
        exact_scale(settings, 1, latent_statistics(flat))


def uneven_cache(folder: Path, ids: list[str], shape: tuple[int, ...]) -> LatentCache:
    generator, sources = torch.Generator().manual_seed(4), {i: i for i in ids}
    ranks = 1.0 + torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    with LatentWriter(folder, "float32", key="uneven", sources=sources) as writer:
        for case_id in ids:
            mean = ranks * torch.randn(shape, generator=generator)
            writer.add(case_id, mean, torch.full(shape, -2.0))
    return merge_latents(
        folder, "float32", key="uneven", fingerprint="tiny", sources=sources, train_ids=ids
    )


def test_batches_have_unit_spread_in_every_channel(tmp_path: Path) -> None:
    recipe = tiny_recipe("latent.scale_per=channel", "latent.draw=mean")
    folders = encoded_run(recipe, tmp_path)
    ids = [f"case-{n}" for n in range(7)]
    cache = uneven_cache(tmp_path / "uneven", ids, (recipe.latent.channels, *recipe.latent.size))

    cases = {case.id: case for case in Manifest.read(folders.prepared)}
    text = TextCache.open(folders.text, recipe.text)
    builder = LatentBatchBuilder(BatchSettings.of(recipe), cases, cache, text, scale=1.0)
    scale = latent_scale(recipe.latent, builder, 4)
    assert isinstance(scale, tuple)
    seen = replace(builder, scale=scale).make([SampleKey(case_id, 0) for case_id in ids]).latents
    spread = seen.double().transpose(0, 1).flatten(1).std(dim=1, correction=0)
    assert spread.tolist() == pytest.approx([1.0] * recipe.latent.channels, rel=1e-5)
    assert max(scale) > 2 * min(scale)


def test_a_model_keeps_its_factors_and_samples_are_in_the_autoencoders_scale(
    tmp_path: Path,
) -> None:
    recipe = tiny_recipe("latent.scale_per=channel", "train.steps=2", name="base")
    folders = encoded_run(recipe, tmp_path)
    ids = [f"case-{n}" for n in range(7)]
    for path in folders.latents.glob("*"):
        path.unlink()
    cache = uneven_cache(folders.latents, ids, (recipe.latent.channels, *recipe.latent.size))
    out = train(recipe, tmp_path)
    assert out is not None
    written = json.loads((out / FACTS).read_text())["latent_scale"]
    expected = exact_scale(recipe.latent, 1, cache.statistics)
    assert isinstance(expected, tuple)
    assert written == list(expected)
    model = load_model(out)
    assert model.latent_scale == expected

    settings, asked = GenerationSettings.of(recipe), [Request("one", None, 0, (2.0, 2.0, 3.0))]
    made = generate(model, settings, asked, device=CPU).latents
    model.latent_scale = 1.0
    bare = generate(model, settings, asked, device=CPU).latents
    assert torch.equal(made, bare / over_channels(expected, 3))

    # A folder from before has one number.
    facts = json.loads((out / FACTS).read_text())
    (out / FACTS).write_text(json.dumps({**facts, "latent_scale": 0.5}))
    assert load_facts(out).latent_scale == 0.5
    assert load_model(out).latent_scale == 0.5


SMOKE = Path(__file__).parents[1] / "recipes" / "ccella.yaml"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["latent.scale_per=channel", "latent.scale=0.5"], "latent.scale gives one number, 0.5"),
        (
            ["latent.scale_per=sequence", "data.sequences=[t2w,adc]"],
            "is of all sequences; expected",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_recipe(settings: list[str], told: str) -> None:
    with pytest.raises(UserError, match=r"latent.scale_per: received") as caught:
        load_recipe(SMOKE, ["smoke"], settings)
    assert told in str(caught.value)


def test_recipes_and_hashes_from_before_are_those_without_it() -> None:
    assert "scale_per" not in Latent().model_dump(mode="json")
    assert Latent(scale_per="channel").model_dump(mode="json")["scale_per"] == "channel"
