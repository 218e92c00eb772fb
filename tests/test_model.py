"""LatentDiffusion: what reaches the denoiser, and what the losses teach."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from monai.losses import FocalLoss
from tiny_run import REPOSITORY, tiny_recipe

import voxella
from voxella.errors import UserError
from voxella.ldm.build import Batch, LatentDiffusion
from voxella.ldm.monitor import Monitor
from voxella.ranks import Ranks

# Counted on the released modules; the table of design note "method" (paper's sizes).
PARAMETERS = {
    "base": (166_254_852, 166_254_852),
    "radbase": (167_812_356, 167_812_356),
    "ellabase": (203_413_508, 271_954_436),
    "decoupled": (204_971_012, 273_511_940),
    "ccella": (204_971_012, 575_506_474),
    "l1only": (204_971_012, 575_506_474),
    "shared": (204_971_012, 323_844_384),
    "first": (204_971_012, 323_844_358),
    "last": (204_971_012, 323_844_358),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_at_the_papers_sizes(name: str) -> None:
    recipe = voxella.load_recipe(str(REPOSITORY / "recipes" / f"{name}.yaml"))
    with torch.device("meta"):
        model = voxella.build_model(recipe)
    unet = sum(p.numel() for p in model.backbone.parameters())
    assert (unet, sum(p.numel() for p in model.parameters())) == PARAMETERS[name]


def awake(model: LatentDiffusion) -> LatentDiffusion:
    """Move every parameter off zero: zero-initialised layers hide what reaches them."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def built(name: str = "ccella", *overrides: str) -> LatentDiffusion:
    model = awake(voxella.build_model(tiny_recipe(*overrides, name=name)))
    model.null_text = torch.full((1, 2, 12), 0.1)
    return model


def batch(count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(6)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Batch(
        case_ids=tuple(f"c{i}" for i in range(count)),
        latents=noise(count, 4, 4, 4, 4),
        noise=noise(count, 4, 4, 4, 4),
        timesteps=torch.tensor([3, 250, 600, 999][:count]),
        text_features=noise(count, 5, 12),
        text_mask=None,
        label=torch.eye(2)[[0, 1, 1, 0]][:count],
        has_report=torch.tensor([True, True, False, True][:count]),
        spacing_mm=torch.full((count, 3), 0.5),
    )


def test_softmax_times_100_is_the_class_vector_and_spacing_follows() -> None:
    model, given = built(), batch()
    conditioning = model.condition(
        timesteps=given.timesteps, text_features=given.text_features, spacing_mm=given.spacing_mm
    )
    assert conditioning.class_logits is not None
    torch.testing.assert_close(
        conditioning.vectors["class"], 100 * conditioning.class_logits.softmax(dim=1)
    )
    assert conditioning.vectors["spacing"].tolist() == [[50.0] * 3] * 4
    assert list(conditioning.vectors) == ["class", "spacing"]


def test_one_hot_times_100_for_the_radiologists_label() -> None:
    model = built("decoupled")
    conditioning = model.condition(
        timesteps=torch.tensor([5, 5, 5]),
        label=torch.tensor([1, 0, -1]),
        spacing_mm=torch.ones(3, 3),
    )
    assert conditioning.vectors["class"].tolist() == [[0, 100], [100, 0], [0, 0]]
    assert conditioning.class_logits is None


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_the_class_vector_reaches_the_denoiser_where_the_recipe_says(name: str) -> None:
    model, given = built(name), batch()
    text = given.text_features if "text" in model.needs else None
    conditioning = model.condition(
        timesteps=given.timesteps,
        text_features=text,
        label=given.label,
        spacing_mm=given.spacing_mm,
    )
    output = model.predict(given.latents, given.timesteps, conditioning)
    assert output.shape == given.latents.shape
    assert ("class" in conditioning.vectors) == (name not in ("base", "ellabase"))
    for vector in conditioning.vectors:
        moved = conditioning._replace(
            vectors={**conditioning.vectors, vector: conditioning.vectors[vector] + 1.0}
        )
        assert not torch.equal(output, model.predict(given.latents, given.timesteps, moved)), vector


def test_total_is_l1_plus_lambda_focal() -> None:
    given = batch()
    losses = built("ccella", "loss.class_weight=0.5")(given)
    torch.testing.assert_close(
        losses["total"], losses["reconstruction"] + 0.5 * losses["class"], rtol=0, atol=1e-7
    )
    plain = built("ccella", "loss.class_weight=0.5", "loss.class_target_scale=100")(given)
    torch.testing.assert_close(plain["class"], 100 * losses["class"])


def test_weighing_timesteps_changes_the_total_and_not_the_reconstruction() -> None:
    given = batch()
    plain = built("base")(given)
    model = built("base", "loss.weighting={name: p2, k: 1, gamma: 1}")
    losses = model(given)
    per_case = plain["reconstruction_per_case"]
    torch.testing.assert_close(losses["reconstruction_per_case"], per_case)
    # With k and gamma 1 the weight is the noise's variance.
    expected = per_case * model.schedule.sigma(given.timesteps) ** 2
    torch.testing.assert_close(losses["total"], expected.mean())
    torch.testing.assert_close(losses["weighted_per_case"], expected)
    monitor = Monitor(Ranks(0, 0, 1), 1000, class_weight=0.0)
    monitor.add(given, losses)
    scalars = monitor.read()
    assert scalars["loss/total"] == pytest.approx(float(expected.mean()))
    assert scalars["loss/reconstruction"] == pytest.approx(float(per_case.mean()))


@pytest.mark.parametrize("recipe", ["base", "ccella-rflow"])
def test_min_snr_weighs_what_the_recipe_predicts(recipe: str) -> None:
    """epsilon: min(SNR, 5) / SNR; flow, where alpha is 1 - s: s^2 min(SNR, 5)."""
    given = replace(batch(), timesteps=torch.tensor([10, 250, 600, 990]))
    model = built(recipe, "loss.weighting={name: min_snr}", "loss.reconstruction=mse")
    losses = model(given)
    t = given.timesteps
    alpha, sigma = model.schedule.alpha(t), model.schedule.sigma(t)
    snr = (alpha / sigma) ** 2
    factor = sigma**2 if recipe == "ccella-rflow" else 1 / snr
    torch.testing.assert_close(
        losses["weighted_per_case"],
        losses["reconstruction_per_case"] * snr.clamp(max=5.0) * factor,
    )


def test_a_weighting_reads_back_and_refuses_what_it_has_not() -> None:
    plain = tiny_recipe(name="base").fingerprint_data()["loss"]
    assert "weighting" not in plain
    p2 = tiny_recipe("loss.weighting={name: p2}", name="base")
    assert p2.fingerprint_data()["loss"]["weighting"] == {"name": "p2", "k": 1.0, "gamma": 1.0}
    snr = tiny_recipe("loss.weighting={name: min_snr}", name="base")
    assert snr.fingerprint_data()["loss"]["weighting"] == {"name": "min_snr", "gamma": 5.0}
    for wrong, told in (
        ("{name: min_snr, k: 1}", "received k 1 with min_snr; expected: gamma alone"),
        ("{name: min_snr, gamma: 0}", "received gamma 0 with min_snr"),
        ("{name: minsnr}", "did you mean min_snr?"),
    ):
        with pytest.raises(UserError) as refused:
            tiny_recipe(f"loss.weighting={wrong}", name="base")
        assert told in str(refused.value)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_class_loss_is_the_released_call(scale: float) -> None:
    """The paper's formula, and paper mode (scale 100): summed over classes, averaged over cases."""
    given = batch()
    losses = built("ccella", f"loss.class_target_scale={scale}")(given)
    released = FocalLoss(gamma=2.0, alpha=0.75, use_softmax=True, reduction="none")
    terms = released(losses["class_logits"], scale * given.label)
    counted = given.has_report
    torch.testing.assert_close(losses["class"], terms.sum(dim=1)[counted].mean())
    torch.testing.assert_close(losses["class_per_case"], terms.sum(dim=1))
    # MONAI's own mean, by which the loss was once too small.
    torch.testing.assert_close(losses["class"], 2 * terms[counted].mean())


def test_class_loss_counts_only_cases_with_a_report() -> None:
    model, given = built("ccella", "loss.class_weight=1.0"), batch()
    per_case = model(given)["class_per_case"]
    torch.testing.assert_close(model(given)["class"], per_case[[0, 1, 3]].mean())
    nobody = replace(given, has_report=torch.zeros(4, dtype=torch.bool))
    losses = model(nobody)
    assert losses["class"].item() == 0.0
    losses["class"].backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_gradients_of_the_class_loss_vanish_for_a_case_without_report() -> None:
    model, given = built(), batch()
    text = given.text_features
    assert text is not None
    text.requires_grad_()
    model(given)["class"].backward()
    assert text.grad is not None
    per_case = text.grad.flatten(1).abs().sum(dim=1)
    assert per_case[2] == 0
    assert bool((per_case[[0, 1, 3]] > 0).all())


def test_reconstruction_reaches_the_class_heads_through_the_softmax() -> None:
    """As in l1only: heads learn from the reconstruction alone."""
    model = built("l1only", "vectors=[{name: class, scale: 0.1}, {name: spacing, scale: 0.1}]")
    model(batch())["reconstruction"].backward()
    heads = [p for n, p in model.conditioner.named_parameters() if "head" in n or "join" in n]
    assert heads
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in heads)


def test_padding_behind_the_mask_changes_nothing() -> None:
    model, given = built(), batch()
    text = given.text_features
    assert text is not None
    padded = torch.cat([text, torch.full((4, 3, 12), 7.0)], dim=1)
    mask = torch.arange(8).expand(4, 8) < 5
    plain, masked = model(given), model(replace(given, text_features=padded, text_mask=mask))
    torch.testing.assert_close(plain["total"], masked["total"], rtol=1e-5, atol=1e-6)
    unmasked = model(replace(given, text_features=padded))
    assert abs((plain["class"] - unmasked["class"]).item()) > 1e-5


def test_no_report_means_the_empty_reports_features() -> None:
    model = built()
    timesteps, spacing = torch.tensor([10, 500]), torch.ones(2, 3)
    assert model.null_text is not None
    without = model.condition(timesteps=timesteps, spacing_mm=spacing)
    empty = model.condition(
        timesteps=timesteps, spacing_mm=spacing, text_features=model.null_text.expand(2, -1, -1)
    )
    assert without.context is not None
    assert empty.context is not None
    assert torch.equal(without.context, empty.context)
    model.null_text = None
    with pytest.raises(ValueError, match="features of the empty report"):
        model.condition(timesteps=timesteps, spacing_mm=spacing)


def test_dropped_label_is_a_zero_vector() -> None:
    model, given = built("radbase"), batch()
    conditioning = model.condition(
        timesteps=given.timesteps,
        label=given.label,
        spacing_mm=given.spacing_mm,
        drop_label=torch.tensor([True, False, False, False]),
    )
    assert conditioning.vectors["class"][:2].tolist() == [[0, 0], [0, 100]]


def test_spacing_is_asked_for() -> None:
    with pytest.raises(ValueError, match="spacing_mm"):
        built("base").condition(timesteps=torch.tensor([1]))


def test_initial_weights_follow_from_the_seed() -> None:
    first, again, other = (
        voxella.build_model(tiny_recipe(f"seed={seed}")).state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_any_number_of_classes_and_two_dimensions() -> None:
    model = built(
        "ccella",
        "data.classes=[low, middle, high]",
        "latent.size=[4, 4]",
        "prepare.size=[16, 16]",
        "prepare.crop_mm=[128, 128]",
    )
    conditioning = model.condition(
        timesteps=torch.tensor([5]),
        text_features=torch.randn(1, 3, 12),
        spacing_mm=torch.ones(1, 2),
    )
    assert conditioning.vectors["class"].shape == (1, 3)
    output = model.predict(torch.randn(1, 4, 4, 4), torch.tensor([5]), conditioning)
    assert output.shape == (1, 4, 4, 4)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("vectors=[{name: spacing}]", r"provided but not listed: \['class'\]"),
        ("vectors=[{name: class}, {name: age}]", r"unknown: \['age'\]"),
    ],
)
def test_vectors_that_do_not_fit_are_named(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        voxella.build_model(tiny_recipe(override))
