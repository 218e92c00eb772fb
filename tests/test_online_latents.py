"""Latents encoded as training goes: the same training as from a cache, and crops by the seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stacked_run import stacked_recipe, stacked_run
from tiny_run import REPOSITORY

from voxella.autoencoder.load import AutoencoderPlan
from voxella.cache.latents import LatentCache
from voxella.cache.online import OnlineLatents
from voxella.cache.stage import encode
from voxella.case import Manifest
from voxella.errors import UserError
from voxella.forecast.sizes import Cases, work_bytes
from voxella.ldm.export import load_model
from voxella.ldm.train import train
from voxella.ranks import Ranks
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders

SETTINGS = ("latent.draw=mean", "train.steps=4", "train.checkpoint_every=2", "train.log_every=1")
CROP = ("latent.source=online", "latent.crop=[8,8,8]", "latent.size=[2,2,2]")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("online")
    stacked_run(folder, *SETTINGS, f"workspace={folder / 'work'}")
    return folder


def recipe_of(root: Path, *settings: str) -> Recipe:
    return stacked_recipe(root, *SETTINGS, f"workspace={root / 'work'}", *settings)


def folders_of(root: Path, run: Path) -> Folders:
    return Folders.of(run, root / "work", root / "dataset")


def losses(run: Path) -> list[float]:
    lines = (run / "train" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss/reconstruction"] for line in lines]


def weights(model: Path | None) -> dict[str, torch.Tensor]:
    assert model is not None
    return dict(load_model(model).state_dict())


def opened(root: Path, recipe: Recipe, run: Path) -> OnlineLatents:
    folders = folders_of(root, run)
    plan, ranks = AutoencoderPlan.of(recipe), Ranks.from_environment()
    own = run / "train"
    return OnlineLatents.open(plan, folders.prepared, folders.autoencoder, own, ranks)


@pytest.mark.parametrize("draw", ["mean", "resample"])
def test_it_is_the_training_of_the_cache(root: Path, tmp_path: Path, draw: str) -> None:
    """Nothing is encoded otherwise, so the numbers are equal, not nearly equal."""
    cached = recipe_of(root, f"latent.draw={draw}")
    online = recipe_of(root, f"latent.draw={draw}", "latent.source=online")
    models = [train(cached, tmp_path / "cached"), train(online, tmp_path / "online")]
    assert losses(tmp_path / "online") == losses(tmp_path / "cached")
    first, second = (weights(model) for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    scales = [load_model(Path(str(model))).latent_scale for model in models]
    assert scales[0] == scales[1], "all five training cases are among the first 64"


def test_a_killed_training_goes_on_to_the_bit(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(root, *CROP, "latent.draw=resample")
    whole = train(recipe, tmp_path / "whole")
    assert train(recipe, tmp_path / "parts", stop_after=2) is None
    parts = train(recipe, tmp_path / "parts")
    first, second = weights(whole), weights(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_visit_sees_a_crop_by_seed_case_and_epoch(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(root, *CROP)
    latents = opened(root, recipe, tmp_path)
    size = latents.volumes.read("c0").shape[1:]
    places = [latents._place("c0", epoch, size) for epoch in range(40)]
    assert len({tuple(part.start for part in place[1:]) for place in places}) > 20
    firsts = [{place[axis].start for place in places} for axis in (1, 2, 3)]
    assert all(min(starts) == 0 and max(starts) == 8 for starts in firsts), "from edge to edge"
    assert all(place[1].stop - place[1].start == 8 for place in places)
    again = opened(root, recipe, tmp_path)
    assert [again._place("c0", epoch, size) for epoch in range(5)] == places[:5]
    assert latents._place("c0", 0, size) != latents._place("c2", 0, size)
    # What is seen is the crop's own latent.
    image = latents.volumes.read("c2")[latents._place("c2", 3, size)]
    with torch.no_grad():
        mean, _ = latents.coder.encode(image[None])
    assert torch.equal(latents.mean("c2", 3), mean[0])
    assert latents.mean("c2", 3).shape == (4, 2, 2, 2)
    assert not torch.equal(latents.mean("c2", 3), latents.mean("c2", 4))


def test_the_scale_is_of_as_many_cases_as_asked_and_is_kept(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(root, "latent.source=online", "latent.scale_cases=2")
    latents = opened(root, recipe, tmp_path)
    first = latents._first_cases()
    assert len(first) == 2
    assert first == opened(root, recipe, tmp_path / "other")._first_cases()
    seeds = [recipe_of(root, "latent.source=online", f"seed={seed}") for seed in range(4)]
    orders = {tuple(opened(root, one, tmp_path)._first_cases()) for one in seeds}
    assert len(orders) > 1, "the seed chooses"
    found = latents.statistics
    assert found.cases == 2
    # By hand, over what is there.
    cache = LatentCache.open(folders_of(root, tmp_path).latents, recipe_of(root).latent)
    parts = [cache.mean(i)[cache.present(i)].double() for i in first]
    flat = torch.cat([part.flatten() for part in parts])
    assert found.mean == pytest.approx(float(flat.mean()), rel=1e-9)
    kept = tmp_path / "train" / "latent_statistics.json"
    assert json.loads(kept.read_text())["statistics"]["cases"] == 2
    before = kept.stat().st_mtime_ns
    assert opened(root, recipe, tmp_path).statistics == found
    assert kept.stat().st_mtime_ns == before, "read, not measured again"


def test_nothing_is_cached_and_the_forecast_says_so(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folders = recipe_of(root, "latent.source=online"), folders_of(root, tmp_path)
    encode(recipe, folders.prepared, folders.dataset, tmp_path / "caches", None, device="cpu")
    assert not (tmp_path / "caches" / "latents").exists()
    assert "training encodes them as it goes" in capsys.readouterr().out
    cases = Cases(5, 6, "told")
    assert work_bytes(cases, 8, recipe.latent, None)["latents"] == 0
    assert work_bytes(cases, 8, recipe_of(root).latent, None)["latents"] > 0


def test_a_case_that_is_gone_is_refused(root: Path, tmp_path: Path) -> None:
    latents = opened(root, recipe_of(root, "latent.source=online"), tmp_path)
    known = [case.id for case in Manifest.read(folders_of(root, tmp_path).prepared)]
    latents.require(known)
    with pytest.raises(UserError, match=r"1 cases have no image in .*: c77"):
        latents.require([*known, "c77"])


SMOKE = REPOSITORY / "recipes" / "ccella.yaml"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["latent.crop=[8,8,8]"], "needs latent.source: online"),
        (["latent.source=online", "latent.variations=2"], "variations lie in a cache"),
        (["latent.source=online", "latent.crop=[8,8,99]"], "at most those of prepare.size"),
        (["latent.source=online", "latent.crop=[8,8,12]"],
         "latent.crop [8, 8, 12] must be one whole multiple of it"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_recipe(settings: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(SMOKE, ["smoke"], settings)
    assert told in str(caught.value)


def test_recipes_and_hashes_from_before_are_those_without_it(root: Path) -> None:
    told: dict[str, Any] = recipe_of(root).latent.model_dump(mode="json")
    assert not {"source", "scale_cases", "crop"} & told.keys()
