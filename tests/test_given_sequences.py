"""Sequences that are given: held at every step, so that the others are made to go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stacked_run import stacked_recipe, stacked_run
from torch import Tensor

from voxella import Generator
from voxella.case import Manifest
from voxella.diffusion.samplers import make_sampler
from voxella.diffusion.sampling import sample as walk
from voxella.diffusion.schedule import make_schedule
from voxella.errors import UserError
from voxella.imaging.volume import read_image
from voxella.ldm.build import build_model
from voxella.ldm.generate import GenerationSettings, generate
from voxella.ldm.held import Held, holding
from voxella.ldm.request import Request
from voxella.ldm.train import train
from voxella.recipe.model import Recipe
from voxella.sampling.prompt_files import check_prompts
from voxella.sampling.prompt_values import PromptRules
from voxella.sampling.stage import sample
from voxella.workspace.folders import Folders

CPU = torch.device("cpu")
SAMPLING = ("sample.steps=3", "sample.guidance=1")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    recipe, folders = stacked_run(folder, *SAMPLING, "train.steps=4", "optimizer.lr=0.01")
    train(recipe, folders.run)
    return folder


def recipe_of(root: Path, *settings: str) -> Recipe:
    return stacked_recipe(root, *SAMPLING, "train.steps=4", "optimizer.lr=0.01", *settings)


def t2w(root: Path, case: str = "c0") -> Path:
    return root / "dataset" / "images" / f"{case}_t2w.nii.gz"


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmpp_2m"])
def test_given_channels_are_the_noised_given_ones_at_every_call(name: str) -> None:
    schedule = make_schedule("cosine", steps=100, beta_start=0.0015, beta_end=0.0195)
    sampler = make_sampler(name, schedule, 100 if name == "ddpm" else 5)
    generator = torch.Generator().manual_seed(1)
    given = torch.randn(2, 3, 2, 2, 2, generator=generator)
    mask = torch.tensor([True, False, False]).reshape(1, 3, 1, 1, 1).expand(2, 3, 1, 1, 1)

    class Model:
        latent_scale = 0.5
        schedule: Any

    model = Model()
    model.schedule = schedule

    def noise(step: int, purpose: str = "sampling") -> Tensor:
        seed = sum(map(ord, purpose)) * 1000 + step
        return torch.randn(2, 3, 2, 2, 2, generator=torch.Generator().manual_seed(seed))

    rows = [Held(one, mask[0, :, 0, 0, 0]) for one in given]
    hold = holding(model, rows, noise, CPU, fresh=sampler.stochastic)  # type: ignore[arg-type]
    seen: list[tuple[int, Tensor]] = []

    def denoise(x: Tensor, t: int) -> Tensor:
        seen.append((t, x.clone()))
        return 0.1 * x

    made = walk(sampler, denoise, noise(0, "initial"), prediction="epsilon", noise=noise, hold=hold)
    for index, (t, x) in enumerate(seen):
        drawn = noise(index, "given") if name == "ddpm" else noise(0, "initial")
        wanted = schedule.add_noise(0.5 * given, drawn, t)
        assert torch.equal(x[:, 0], wanted[:, 0])
        assert not torch.equal(x[:, 1], wanted[:, 1])
    assert torch.equal(made[:, 0], 0.5 * given[:, 0])
    assert len(seen) == sampler.steps


def test_of_a_batch_only_those_that_give_are_held(root: Path) -> None:
    recipe = recipe_of(root)
    model = build_model(recipe).eval()
    model.latent_scale = (0.5, 0.5, 2.0, 2.0)
    settings = GenerationSettings.of(recipe)
    latents = torch.randn(settings.shape, generator=torch.Generator().manual_seed(2))
    held = Held(latents, torch.tensor([True, True, False, False]))
    free = [Request(name, None, -1, (8.0, 8.0, 6.0)) for name in ("a", "b")]
    mixed = [free[0], Request("b", None, -1, (8.0, 8.0, 6.0), held=held)]
    alone = generate(model, settings, free, device=CPU).latents
    made = generate(model, settings, mixed, device=CPU).latents
    torch.testing.assert_close(made[0], alone[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made[1, :2], latents[:2], rtol=1e-6, atol=1e-6)
    assert not torch.equal(made[1, 2:], latents[2:])


def test_the_generator_makes_the_adc_of_a_t2w(root: Path) -> None:
    generator = Generator.open(root / "run", settings=[*SAMPLING])
    made = generator.generate(given={"t2w": t2w(root)}, count=2)
    prepared = Manifest.read(Folders.of(root / "run", None, root / "dataset").prepared)
    case = next(case for case in prepared if case.id == "c0")
    wanted = read_image(prepared.image_path(case, "t2w")).array[0]
    for image in made:
        assert np.array_equal(image.array[0], wanted), "what is given is written as prepared"
        assert image.provenance["given"] == ["t2w"]
        assert image.provenance["spacing_mm"] == case.extra["spacing_mm"]
    assert not np.array_equal(made[0].array[1], made[1].array[1]), "each of its own noise"
    again = generator.generate(given={"t2w": t2w(root)}, count=2)
    assert np.array_equal(again[0].array, made[0].array)
    other = generator.generate(given={"t2w": t2w(root, "c2")}, count=1)
    assert not np.array_equal(other[0].array[1], made[0].array[1]), "the ADC follows the T2w"
    free = generator.generate(count=1)
    assert "given" not in free[0].provenance


def prompts(root: Path, *lines: dict[str, Any]) -> Path:
    path = root / "dataset" / "prompts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_prompts_give_files_beside_them(root: Path, tmp_path: Path) -> None:
    first: dict[str, Any] = {"id": "p1", "given": {"t2w": "images/c0_t2w.nii.gz"}}
    lines: list[dict[str, Any]] = [first, {"id": "p2"}]
    recipe = recipe_of(root, "sample.count=2", f"sample.prompts={prompts(root, *lines)}")
    check_prompts(recipe.sample, PromptRules.of(recipe), root / "run" / "model")
    out = sample(recipe, root / "run")
    made = {case.id: case for case in Manifest.read(out)}
    assert made["p1-s000"].extra["given"] == ["t2w"]
    assert "given" not in made["p2-s000"].extra
    volume = read_image(out / made["p1-s000"].images["t2w"]).array[0]
    generator = Generator.open(root / "run", settings=[*SAMPLING])
    same = generator.generate(given={"t2w": t2w(root)}, name="p1")[0]
    assert np.array_equal(volume, same.array[0])
    adc = out / made["p1-s000"].images["adc"]
    before = adc.read_bytes()

    # Another file under the same name is another volume.
    lines[0]["given"] = {"t2w": "images/c2_t2w.nii.gz"}
    prompts(root, *lines)
    sample(recipe, root / "run")
    assert adc.read_bytes() != before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"given": {"dwi": "a.nii.gz"}},
         "names that are no sequence of the recipe; expected: t2w, adc"),
        ({"given": {"t2w": "absent.nii.gz"}}, "absent.nii.gz"),
        ({"given": {"t2w": "images/c0_t2w.nii.gz", "adc": "images/c0_adc.nii.gz"}},
         "every sequence is given, so there is nothing to generate"),
        ({"given": {"t2w": "images/c0_t2w.nii.gz"}, "spacing_mm": [8.0, 8.0, 6.0]},
         "what is given decides it, so both cannot stand"),
        ({"given": ["t2w"]}, "given is not paths of image files in quotes, by sequence"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_is_refused_by_line(
    root: Path, line: dict[str, Any], told: str
) -> None:
    recipe = recipe_of(root, f"sample.prompts={prompts(root, {'id': 'p1', **line})}")
    with pytest.raises(UserError) as caught:
        check_prompts(recipe.sample, PromptRules.of(recipe), root / "run" / "model")
    assert "prompts.jsonl:1: " in str(caught.value)
    assert told in str(caught.value)


def test_latents_of_all_sequences_together_cannot_be_held(root: Path) -> None:
    line = {"id": "p1", "given": {"t2w": "images/c0_t2w.nii.gz"}}
    settings = ("data.optional=[]", "autoencoder.per_sequence=false")
    recipe = recipe_of(root, f"sample.prompts={prompts(root, line)}", *settings)
    with pytest.raises(UserError, match=r"autoencoder\.per_sequence"):
        check_prompts(recipe.sample, PromptRules.of(recipe), root / "run" / "model")
