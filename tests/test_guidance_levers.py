"""Guidance in an interval of noise levels, and away from a weaker model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_generate import CPU, DDIM, SPACING, Spy, ddim_by_hand, make, request, trained
from tiny_run import encoded_run, tiny_recipe
from torch import Tensor

from voxella.diffusion.guidance import is_within
from voxella.diffusion.noise import seeded_noise
from voxella.diffusion.samplers import make_sampler
from voxella.diffusion.schedule import make_schedule
from voxella.errors import UserError
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.export import load_facts, load_model
from voxella.ldm.generate import GenerationSettings, generate
from voxella.ldm.model_folder.published import without_places
from voxella.ldm.train import train
from voxella.recipe.load import dump_recipe
from voxella.sampling.weaker import load_weaker, weaker_origin

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


def other(model: LatentDiffusion) -> LatentDiffusion:
    """A weaker version: the same network with other weights."""
    weaker = trained(tiny_recipe())
    with torch.no_grad():
        for parameter in weaker.parameters():
            parameter.mul_(0.9)
    weaker.null_text = model.null_text
    return weaker


def test_the_interval_is_of_noise_over_signal() -> None:
    flow = make_schedule("rectified_flow", steps=1000, beta_start=0.1, beta_end=0.2)
    # There sigma / alpha is s / (1 - s): 0.5 at a third, 2 at two thirds.
    inside = [t for t in range(1000) if is_within(flow, t, (0.5, 2.0))]
    assert (inside[0], inside[-1]) == (333, 665)
    assert inside == list(range(333, 666))
    assert not is_within(flow, 999, (0.0, 1e12)), "pure noise lies above every interval"
    assert is_within(flow, 999, None)
    scaled = make_schedule("scaled_linear", steps=1000, beta_start=0.0015, beta_end=0.0195)
    ratio = scaled.sigmas / scaled.alphas
    found = [t for t in range(1000) if is_within(scaled, t, (0.28, 2.9))]
    assert found == [t for t in range(1000) if 0.28 < float(ratio[t]) <= 2.9]
    assert 0 < len(found) < 1000


def test_an_interval_of_all_is_guidance_and_of_none_is_no_guidance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The smallest network that is told something: its label.
    guided = tiny_recipe(*DDIM, "sample.guidance=2.5", name="radbase")
    model, one = trained(guided), [request("a")]
    everywhere = make(guided, one, model).latents
    plain = make(tiny_recipe(*DDIM, name="radbase"), one, model).latents
    for interval, wanted in (("[0, 1000]", everywhere), ("[900, 1000]", plain)):
        within = f"sample.guidance_interval={interval}"
        recipe = tiny_recipe(*DDIM, "sample.guidance=2.5", within, name="radbase")
        assert torch.equal(make(recipe, one, model).latents, wanted), interval
    # In the middle alone: the three steps are at sigma / alpha of 82, 1.4 and 0.04.
    spy = Spy(model, monkeypatch)
    within = "sample.guidance_interval=[0.28, 2.9]"
    middle = tiny_recipe(*DDIM, "sample.guidance=2.5", within, name="radbase")
    latents = make(middle, one, model).latents
    assert len(spy.told) == 4, "a second call at one step of three"
    assert not torch.allclose(latents, plain)
    assert not torch.allclose(latents, everywhere)


def test_autoguidance_is_the_weaker_plus_w_times_the_difference(tmp_path: Path) -> None:
    """Karras et al. 2024, equation 4, by hand: both are told the same report, label, spacing."""
    recipe = tiny_recipe(*DDIM, "sample.guidance=2.5", f"sample.autoguidance={tmp_path}")
    model, one = trained(recipe), request("a")
    weaker = other(model)

    def network(x: Tensor, t: Tensor) -> Tensor:
        assert one.text_features is not None
        text, spacing = one.text_features[None], torch.tensor([SPACING])
        good, bad = (
            each.predict(x, t, each.condition(timesteps=t, text_features=text, spacing_mm=spacing))
            for each in (model, weaker)
        )
        return bad + 2.5 * (good - bad)

    start = seeded_noise((4, 4, 4, 4), seed=0, case_id="a", step=0, purpose="initial")[None]
    timesteps = make_sampler("ddim", model.schedule, 3).timesteps
    with torch.no_grad():
        wanted = ddim_by_hand(model.schedule, timesteps, start, network)
    settings = GenerationSettings.of(recipe)
    made = generate(model, settings, [one], device=CPU, weaker=weaker)
    torch.testing.assert_close(made.latents, wanted, **CLOSE)
    # Of a model by itself there is nothing to lead away from; panels are drawn so.
    itself = generate(model, settings, [one], device=CPU, weaker=model)
    plain = make(tiny_recipe(*DDIM), [one], model).latents
    torch.testing.assert_close(itself.latents, plain, **CLOSE)
    assert torch.equal(generate(model, settings, [one], device=CPU).latents, plain)


def test_a_weaker_model_is_one_of_the_same_data_and_its_weights_decide(tmp_path: Path) -> None:
    folders = []
    for name, steps in (("long", 3), ("short", 1)):
        recipe = tiny_recipe(f"train.steps={steps}", name="base")
        encoded_run(recipe, tmp_path / name)
        folder = train(recipe, tmp_path / name)
        assert folder is not None
        folders.append(folder)
    long, short = folders
    model, facts = load_model(long), load_facts(long)
    loaded = load_weaker(short, model, facts)
    assert not all(
        torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True)
    )
    assert weaker_origin(short) == {"autoguidance": load_facts(short).weights_sha256}
    assert weaker_origin(None) == {}
    model.prediction = "v"
    with pytest.raises(UserError, match=r"differs from the model in diffusion\.prediction"):
        load_weaker(short, model, facts)


def test_the_switches_change_no_hash_and_refuse_what_makes_no_sense(tmp_path: Path) -> None:
    plain = tiny_recipe(name="base").fingerprint_data()["sample"]
    assert not {"guidance_interval", "autoguidance"} & set(plain)
    for setting, told in (
        ("sample.guidance_interval=[2, 1]", "expected: [low, high], the second larger"),
        (f"sample.autoguidance={tmp_path}", "guidance 1 is none"),
    ):
        with pytest.raises(UserError) as refused:
            tiny_recipe(setting, name="base")
        assert told in str(refused.value)
    # A model that is given away does not say where another lay.
    named = tiny_recipe("sample.guidance=2", f"sample.autoguidance={tmp_path}", name="base")
    assert str(tmp_path) in dump_recipe(named)
    assert str(tmp_path) not in without_places(dump_recipe(named))
