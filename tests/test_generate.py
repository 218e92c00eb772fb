"""From conditions to latents: independence of the batch, guidance, what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_run import tiny_recipe
from torch import Tensor

import voxella.ldm.generate as generation
from voxella.conditioning import Conditioning
from voxella.diffusion.noise import seeded_noise
from voxella.diffusion.samplers import make_sampler
from voxella.diffusion.schedule import Schedule
from voxella.ldm.build import LatentDiffusion, build_model
from voxella.ldm.generate import Generated, GenerationSettings, generate
from voxella.ldm.request import Request
from voxella.recipe.model import Recipe

CPU = torch.device("cpu")
WIDTH = 12
SPACING = (2.0, 2.0, 3.5)
DDIM = ("sample.sampler=ddim", "sample.steps=3")
COSINE = ("diffusion.schedule=cosine", "sample.sampler=ddpm")
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


def assert_near(found: Tensor, wanted: Tensor) -> None:
    """Equal but for rounding: kernels sum in another order for another batch size.

    Relative to the largest value: the first step divides by an alpha of 0.012 and amplifies.
    """
    assert float((found - wanted).abs().max()) <= 2e-5 * float(wanted.abs().max())


def features(tokens: int, seed: int) -> Tensor:
    return torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(seed))


def request(name: str, tokens: int = 4, label: int = 1) -> Request:
    return Request(name, features(tokens, len(name) + tokens), label, SPACING)


def trained(recipe: Recipe) -> LatentDiffusion:
    """The recipe's model as if trained: no parameter is zero, so that every input matters."""
    model = build_model(recipe)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    if "text" in model.needs:
        model.null_text = features(2, 99)[None]
    return model.eval()


class Spy:
    """Records what the network of a model is told and answers."""

    def __init__(self, model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[Conditioning] = []
        self.timesteps: list[int] = []
        genuine = model.predict

        def predict(x_t: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
            self.told.append(conditioning)
            self.timesteps.append(int(timesteps[0]))
            return genuine(x_t, timesteps, conditioning)

        monkeypatch.setattr(model, "predict", predict)


def make(
    recipe: Recipe, requests: Sequence[Request], model: LatentDiffusion | None = None
) -> Generated:
    return generate(model or trained(recipe), GenerationSettings.of(recipe), requests, device=CPU)


@pytest.mark.parametrize("name", ["ccella", "ellabase", "radbase", "ccella-rflow"])
def test_a_volume_depends_on_its_request_alone(name: str) -> None:
    recipe = tiny_recipe(name=name)
    model = trained(recipe)
    # Reports of different lengths: in a batch the shorter ones are padded.
    wanted = [request("a", 4), request("bb", 1, label=0), request("ccc", 7, label=-1)]
    together = make(recipe, wanted, model)
    turned = make(recipe, wanted[::-1], model)
    for row, one in enumerate(wanted):
        alone = make(recipe, [one], model)
        assert_near(together.latents[row], alone.latents[0])
        assert_near(turned.latents[2 - row], alone.latents[0])
        if alone.class_probabilities is not None and together.class_probabilities is not None:
            torch.testing.assert_close(
                together.class_probabilities[row], alone.class_probabilities[0], **CLOSE
            )
    distances = (together.latents[:, None] - together.latents[None]).abs().amax(dim=(2, 3, 4, 5))
    assert bool((distances + torch.eye(3) > 0.1).all()), "the three volumes are not distinct"


def test_a_request_without_text_beside_others_sees_the_empty_report() -> None:
    recipe = tiny_recipe()
    model = trained(recipe)
    silent = Request("silent", None, 1, SPACING)
    together = make(recipe, [request("a"), silent], model).latents[1]
    assert model.null_text is not None
    spelled_out = Request("silent", model.null_text[0], 1, SPACING)
    assert_near(together, make(recipe, [spelled_out], model).latents[0])
    assert_near(together, make(recipe, [silent], model).latents[0])


def test_seed_and_sample_id_decide_the_noise_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    ddpm = (*COSINE, "diffusion.steps=5", "sample.steps=5")
    recipe = tiny_recipe(*ddpm)
    model = trained(recipe)
    # A network that answers zero leaves a volume that is a function of noise alone.
    monkeypatch.setattr(model, "predict", lambda x_t, timesteps, conditioning: 0.0 * x_t)

    def made(*names: str, seed: int = 0) -> Tensor:
        return make(tiny_recipe(*ddpm, f"seed={seed}"), [request(n) for n in names], model).latents

    batch = made("a", "b", "c")
    assert torch.equal(batch, torch.cat([made("a"), made("b"), made("c")]))
    assert torch.equal(batch.flip(0), made("c", "b", "a"))
    assert not torch.equal(made("a"), made("a", seed=1))
    assert not torch.equal(made("a"), made("b"))


def test_ddpm_draws_noise_per_sample_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe(*COSINE, "diffusion.steps=4", "sample.steps=4", "seed=7")
    drawn: dict[tuple[str, str, int], Tensor] = {}

    def record(shape: Sequence[int], *, seed: int, case_id: str, step: int, purpose: str) -> Tensor:
        assert (case_id, purpose, step) not in drawn, "the same noise was used twice"
        value = seeded_noise(shape, seed=seed, case_id=case_id, step=step, purpose=purpose)
        drawn[case_id, purpose, step] = value
        assert seed == 7
        return value

    monkeypatch.setattr(generation, "seeded_noise", record)
    make(recipe, [request("a"), request("b")])
    steps = [("initial", 0), *(("sampling", step) for step in range(3))]
    assert set(drawn) == {(name, *step) for name in "ab" for step in steps}
    flat = torch.stack([value.flatten() for value in drawn.values()])
    assert flat.shape == (8, 4 * 4 * 4 * 4)
    # 256 numbers each: independent ones correlate by about 1/16.
    assert float((torch.corrcoef(flat) - torch.eye(8)).abs().max()) < 0.35


@pytest.mark.parametrize(("guidance", "calls"), [(1.0, 3), (2.5, 6)])
def test_no_guidance_costs_no_second_call(
    guidance: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(*DDIM, f"sample.guidance={guidance}")
    model = trained(recipe)
    plain = make(tiny_recipe(*DDIM), [request("a")], model).latents
    spy = Spy(model, monkeypatch)
    guided = make(recipe, [request("a")], model).latents
    assert len(spy.told) == calls
    assert torch.equal(plain, guided) == (guidance == 1.0)


def ddim_by_hand(schedule: Schedule, timesteps: Sequence[int], x: Tensor, network: Any) -> Tensor:
    """Song et al. 2021, equation 12 with sigma 0, from the schedule's two tables."""
    after = [*timesteps[1:], None]
    for t, following in zip(timesteps, after, strict=True):
        alpha, sigma = float(schedule.alphas[t]), float(schedule.sigmas[t])
        alpha_next = 1.0 if following is None else float(schedule.alphas[following])
        sigma_next = 0.0 if following is None else float(schedule.sigmas[following])
        epsilon = network(x, torch.tensor([t]))
        x = alpha_next * (x - sigma * epsilon) / alpha + sigma_next * epsilon
    return x


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_guidance_is_null_plus_w_times_the_difference(weight: float) -> None:
    recipe = tiny_recipe(*DDIM, f"sample.guidance={weight}")
    model = trained(recipe)
    one = request("a")

    def network(x: Tensor, t: Tensor) -> Tensor:
        spacing = torch.tensor([SPACING])
        assert one.text_features is not None
        text = one.text_features[None]
        given = model.condition(timesteps=t, text_features=text, spacing_mm=spacing)
        null = model.condition(timesteps=t, spacing_mm=spacing, drop_label=torch.tensor([True]))
        with_text, without = model.predict(x, t, given), model.predict(x, t, null)
        assert not torch.allclose(with_text, without)
        return without + weight * (with_text - without)

    start = seeded_noise((4, 4, 4, 4), seed=0, case_id="a", step=0, purpose="initial")[None]
    timesteps = make_sampler("ddim", model.schedule, 3).timesteps
    with torch.no_grad():
        wanted = ddim_by_hand(model.schedule, timesteps, start, network)
    torch.testing.assert_close(make(recipe, [one], model).latents, wanted, **CLOSE)


NULLS = [
    # recipe, what goes: is the context another one, the class vector zero?
    ("ccella", "[text]", True, False),
    ("ccella", "[label]", False, True),
    ("ccella", "[text, label]", True, True),
    ("decoupled", "[text]", True, False),
    ("decoupled", "[label]", False, True),
    ("decoupled", "[text, label]", True, True),
    ("radbase", "[label]", False, True),
    ("radbase", "[text]", False, False),
    ("ellabase", "[text, label]", True, None),
]


@pytest.mark.parametrize(("name", "lacks", "other_context", "no_class"), NULLS)
def test_the_unconditional_prediction_lacks_what_it_should(
    name: str,
    lacks: str,
    other_context: bool,
    no_class: bool | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = tiny_recipe(*DDIM, "sample.guidance=3", f"sample.guidance_null={lacks}", name=name)
    model = trained(recipe)
    spy = Spy(model, monkeypatch)
    make(recipe, [request("a"), request("bb", 2, label=0)], model)
    for t, given, null in zip(spy.timesteps[::2], spy.told[::2], spy.told[1::2], strict=True):
        assert torch.equal(given.vectors["spacing"], null.vectors["spacing"])
        assert given.vectors["spacing"][0].tolist() == [200.0, 200.0, 350.0]
        if no_class is not None:
            assert bool((given.vectors["class"] != 0).any())
            assert bool((null.vectors["class"] == 0).all()) == no_class
        if given.context is None:
            assert null.context is None
            continue
        assert null.context is not None
        assert torch.equal(given.context, null.context) != other_context
        if other_context:
            empty = model.condition(
                timesteps=torch.full((2,), t), spacing_mm=torch.tensor([SPACING] * 2)
            )
            assert empty.context is not None
            torch.testing.assert_close(null.context, empty.context)
            # CCELLA's class is read from the text, so without text it is the empty report's.
            if name == "ccella" and not no_class:
                torch.testing.assert_close(null.vectors["class"], empty.vectors["class"])
        if name == "decoupled" and not no_class:
            assert null.vectors["class"].tolist() == [[0.0, 100.0], [100.0, 0.0]]


def test_an_unknown_label_is_a_zero_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe(*DDIM, name="radbase")
    model = trained(recipe)
    spy = Spy(model, monkeypatch)
    make(recipe, [request("a", label=-1), request("b", label=0)], model)
    assert spy.told[0].vectors["class"].tolist() == [[0.0, 0.0], [100.0, 0.0]]


def test_guidance_without_text_or_label_changes_nothing() -> None:
    # `base` is told neither: its unconditional prediction is the same, so
    # null + w (cond - null) = cond.
    model = trained(tiny_recipe(name="base"))
    plain = make(tiny_recipe(*DDIM, name="base"), [request("a")], model).latents
    guided = make(tiny_recipe(*DDIM, "sample.guidance=4", name="base"), [request("a")], model)
    assert torch.equal(plain, guided.latents)
    assert guided.class_probabilities is None


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_class_probabilities_are_those_of_the_last_conditional_call(
    guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(*DDIM, f"sample.guidance={guidance}")
    model = trained(recipe)
    spy = Spy(model, monkeypatch)
    made = make(recipe, [request("a"), request("bb", 2)], model)
    told = spy.told if guidance == 1.0 else spy.told[::2]
    probabilities = [c.class_logits.softmax(dim=1) for c in told if c.class_logits is not None]
    assert made.class_probabilities is not None
    assert torch.equal(made.class_probabilities, probabilities[-1])
    assert not torch.allclose(probabilities[0], probabilities[-1])
    torch.testing.assert_close(made.class_probabilities.sum(dim=1), torch.ones(2))


def test_rectified_flow_follows_the_velocity() -> None:
    recipe = tiny_recipe("sample.steps=4", name="ccella-rflow")
    model = trained(recipe)
    one = request("a")
    x = seeded_noise((4, 4, 4, 4), seed=0, case_id="a", step=0, purpose="initial")[None]
    with torch.no_grad():
        # Liu et al. 2022: x at s = 1, 3/4, 1/2, 1/4, the network predicting noise - data.
        for step in range(4):
            t = torch.tensor([round(1000 * (4 - step) / 4) - 1])
            assert one.text_features is not None
            told = model.condition(
                timesteps=t,
                text_features=one.text_features[None],
                spacing_mm=torch.tensor([SPACING]),
            )
            x = x - 0.25 * model.predict(x, t, told)
    torch.testing.assert_close(make(recipe, [one], model).latents, x, **CLOSE)


def test_latents_come_in_the_autoencoders_own_scale() -> None:
    recipe = tiny_recipe(*DDIM)
    model = trained(recipe)
    scaled = make(recipe, [request("a")], model).latents
    model.latent_scale = 0.25
    torch.testing.assert_close(make(recipe, [request("a")], model).latents, 4.0 * scaled)


def test_two_dimensions_and_progress() -> None:
    plane = ("prepare.size=[16,16]", "prepare.crop_mm=[128,128]", "latent.size=[4,4]")
    recipe = tiny_recipe(*plane, *DDIM, "sample.guidance=2")
    model = trained(recipe)
    requests = [Request(name, features(3, 1), 0, (0.5, 0.5)) for name in "ab"]
    seen: list[tuple[int, int]] = []
    made = generate(
        model,
        GenerationSettings.of(recipe),
        requests,
        device=CPU,
        on_step=lambda done, total: seen.append((done, total)),
    )
    assert made.latents.shape == (2, 4, 4, 4)
    assert bool(made.latents.isfinite().all())
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_sampler_given_takes_the_place_of_the_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe(*DDIM)
    model = trained(recipe)
    spy = Spy(model, monkeypatch)
    sampler = make_sampler("dpmpp_2m", model.schedule, 5)
    generate(model, GenerationSettings.of(recipe), [request("a")], device=CPU, sampler=sampler)
    assert spy.timesteps == list(sampler.timesteps)
