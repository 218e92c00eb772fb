"""Batches are functions of (seed, case, epoch): the cut into processes changes nothing."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import encoded_run, tiny_recipe

from voxella.cache.join_latents import merge_latents
from voxella.cache.latents import LatentCache, LatentWriter
from voxella.cache.text import TextCache
from voxella.case import Manifest
from voxella.engine.order import DataOrder, SampleKey
from voxella.engine.task import prefetch
from voxella.errors import UserError
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder, pad_features
from voxella.ldm.build import build_model
from voxella.ldm.conditions import refuse_spared
from voxella.ldm.train import latent_scale
from voxella.recipe.model import Recipe
from voxella.recipe.training import Dropout
from voxella.workspace.folders import Folders


def builder_of(recipe: Recipe, folders: Folders, scale: float = 1.0) -> LatentBatchBuilder:
    cases = {case.id: case for case in Manifest.read(folders.prepared)}
    text = TextCache.open(folders.text, recipe.text) if recipe.text else None
    return LatentBatchBuilder(
        BatchSettings.of(recipe), cases, LatentCache.open(folders.latents), text, scale
    )


def test_two_processes_see_what_one_sees(tmp_path: Path) -> None:
    recipe = tiny_recipe("dropout.text=0.5", "dropout.label=0.5")
    builder = builder_of(recipe, encoded_run(recipe, tmp_path))
    order = DataOrder(list(builder.cases), seed=recipe.seed, batch_size=4)
    for step in range(4):
        whole = builder.make(order.step(step))
        parts = [
            builder.make(part, global_keys=order.step(step))
            for rank in range(2)
            for part in order.micro_batches(step, rank=rank, world=2, accumulation=1)
        ]
        assert whole.case_ids == parts[0].case_ids + parts[1].case_ids
        for name in ("latents", "noise", "timesteps", "label", "has_report", "drop_label"):
            together = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(getattr(whole, name), together), name


def test_losses_do_not_depend_on_the_cut(tmp_path: Path) -> None:
    """Also where reports are spread unevenly: the mean of parts is the mean over all reports."""
    recipe = tiny_recipe("loss.class_weight=1.0")
    builder = builder_of(recipe, encoded_run(recipe, tmp_path))
    model = build_model(recipe)
    assert builder.text is not None
    model.null_text = builder.text.empty.float()[None]
    keys = [SampleKey(f"case-{index}", 0) for index in (0, 1, 2, 5)]  # 2 and 5 have no report
    whole = model(builder.make(keys))
    parts = [model(builder.make(keys[a : a + 2], global_keys=keys)) for a in (0, 2)]
    for name in ("total", "reconstruction", "class"):
        mean = (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(whole[name], mean, rtol=1e-5, atol=1e-6)
    assert parts[1]["class"].item() == 0.0


def test_each_visit_draws_anew_unless_told_otherwise(tmp_path: Path) -> None:
    folders = encoded_run(tiny_recipe(), tmp_path)
    draws = {}
    for draw in ("resample", "mean", "fixed"):
        builder = builder_of(tiny_recipe(f"latent.draw={draw}"), folders)
        draws[draw] = [builder.make([SampleKey("case-0", epoch)]) for epoch in (0, 1)]
        assert not torch.equal(draws[draw][0].noise, draws[draw][1].noise)
    mean, log_sigma = LatentCache.open(folders.latents).read("case-0")
    first, second = draws["resample"]
    assert not torch.equal(first.latents, second.latents)
    spread = ((first.latents[0] - mean) / log_sigma.exp()).std()
    assert 0.8 < float(spread) < 1.2
    assert torch.equal(draws["mean"][0].latents[0], mean)
    assert torch.equal(draws["fixed"][0].latents, draws["fixed"][1].latents)
    assert torch.equal(draws["fixed"][0].latents, first.latents)


def test_a_visit_sees_its_case_or_one_of_its_variations(tmp_path: Path) -> None:
    """One in three each, by (seed, case, epoch); a case without variations always itself."""
    recipe = tiny_recipe("latent.draw=mean")
    folders = encoded_run(recipe, tmp_path)
    builder = builder_of(recipe, folders)
    first = LatentCache.open(folders.latents)
    entries = {"case-0": ("case-0", "case-0+1", "case-0+2")}
    values = {"case-0": 0.0, "case-0+1": 1.0, "case-0+2": 2.0}
    sources = dict.fromkeys([*values, "case-1"], "made from")
    with LatentWriter(tmp_path / "varied", "float32", key="k", sources=sources) as writer:
        for entry, value in (*values.items(), ("case-1", 5.0)):
            latent = torch.full(first.shape, value)
            writer.add(entry, latent, latent)
    told: dict[str, dict[str, Any]] = {
        f"case-0+{k}": {"of": "case-0", "number": k, "change": {}} for k in (1, 2)
    }
    varied = merge_latents(
        tmp_path / "varied",
        "float32",
        key="k",
        fingerprint="a",
        sources=sources,
        train_ids=sources,
        variations=told,
    )
    assert {case_id: varied.entries(case_id) for case_id in ("case-0",)} == entries
    builder = replace(builder, latents=LatentCache.open(tmp_path / "varied"))

    def seen(case_id: str, epoch: int) -> float:
        return float(builder.make([SampleKey(case_id, epoch)]).latents.mean())

    drawn = [seen("case-0", epoch) for epoch in range(300)]
    for value in (0.0, 1.0, 2.0):
        assert abs(drawn.count(value) - 100) < 4 * math.sqrt(300 * 2 / 9)
    assert drawn[:20] == [seen("case-0", epoch) for epoch in range(20)]
    assert {seen("case-1", epoch) for epoch in range(5)} == {5.0}


def test_dropped_text_is_the_empty_report_and_leaves_the_class_loss(tmp_path: Path) -> None:
    recipe = tiny_recipe("dropout.text=1.0")
    builder = builder_of(recipe, encoded_run(recipe, tmp_path))
    batch = builder.make([SampleKey("case-0", 0), SampleKey("case-1", 0)])
    assert builder.text is not None
    assert batch.text_features is not None
    assert torch.equal(batch.text_features[1], builder.text.empty)
    assert not batch.has_report.any()


def test_dropout_shares_are_as_asked(tmp_path: Path) -> None:
    recipe = tiny_recipe("dropout.both=0.1", "dropout.label=0.2")
    builder = builder_of(recipe, encoded_run(recipe, tmp_path))
    drops = [builder._drops(SampleKey("case-0", epoch)) for epoch in range(2000)]
    text, label = (sum(drop[i] for drop in drops) / 2000 for i in (0, 1))
    assert text == pytest.approx(0.1, abs=0.03)
    assert label == pytest.approx(0.1 + 0.9 * 0.2, abs=0.04)


def test_spared_cases_never_lose_their_text(tmp_path: Path) -> None:
    """Paper mode of PathLDM: high lymphocytes keep their caption; unknown ones may lose it."""
    recipe = tiny_recipe("dropout.text=0.5", "dropout.label=0.5", "dropout.spared={prob_til: 0.5}")
    builder = builder_of(recipe, encoded_run(recipe, tmp_path))
    told = {"case-0": 0.5, "case-1": 0.49, "case-2": None}
    cases = {
        name: builder.cases[name].model_copy(
            update={"conditions": {} if value is None else {"prob_til": value}}
        )
        for name, value in told.items()
    }
    builder = replace(builder, cases=cases)
    plain = replace(
        builder, settings=replace(builder.settings, dropout=Dropout(text=0.5, label=0.5))
    )
    for name in told:
        drops, usual = (
            [one._drops(SampleKey(name, epoch)) for epoch in range(200)] for one in (builder, plain)
        )
        assert any(text for text, _ in usual)
        # The label's draw is as before, and text's where the case is not spared.
        assert [label for _, label in drops] == [label for _, label in usual]
        assert [text for text, _ in drops] == [text and name != "case-0" for text, _ in usual]
    refuse_spared(["prob_til"], cases.values())
    with pytest.raises(UserError, match=r"no training case is known by prob_tll"):
        refuse_spared(["prob_tll"], cases.values())
    assert "spared" not in Dropout().model_dump()


def test_scale_is_one_over_the_standard_deviation(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    folders = encoded_run(recipe, tmp_path)
    builder = builder_of(recipe, folders)
    exact = latent_scale(recipe.latent, builder, 4)
    assert isinstance(exact, float)
    # The fixture's latents: mean ~ N(0, 2^2), sigma e^-1, so the variance is near 4 + e^-2.
    assert exact == pytest.approx((4 + 2.718281828**-2) ** -0.5, rel=0.05)
    cache = LatentCache.open(folders.latents)
    means, logs = (torch.stack([cache.read(i)[k] for i in cache.ids]).double() for k in (0, 1))
    variance = (means**2 + (2 * logs).exp()).mean() - means.mean() ** 2
    assert exact == pytest.approx(float(variance**-0.5), rel=1e-6)
    # Where means alone are learnt from, the encoder's noise is no part of them.
    of_means = latent_scale(tiny_recipe("latent.draw=mean").latent, builder, 4)
    assert isinstance(of_means, float)
    assert of_means == pytest.approx(float(means.var(correction=0) ** -0.5), rel=1e-6)
    assert of_means > 1.01 * exact
    seen = builder_of(tiny_recipe("latent.draw=mean"), folders).make(
        [SampleKey(case_id, 0) for case_id in cache.ids]
    )
    assert float(seen.latents.double().std(correction=0)) == pytest.approx(1 / of_means, rel=1e-5)
    assert latent_scale(tiny_recipe("latent.draw=fixed").latent, builder, 4) == exact
    assert latent_scale(tiny_recipe("latent.scale=0.25").latent, builder, 4) == 0.25
    first = latent_scale(tiny_recipe("latent.scale=first_batch").latent, builder, 4)
    assert first == pytest.approx(exact, rel=0.3)
    assert first != exact


def test_unknown_label_is_a_clear_error(tmp_path: Path) -> None:
    folders = encoded_run(tiny_recipe(), tmp_path)
    builder = builder_of(tiny_recipe("data.classes=[benign, malignant]"), folders)
    with pytest.raises(UserError, match="case case-0: label 'negative' is not a class"):
        builder.make([SampleKey("case-0", 0)])


def test_padding_and_prefetch() -> None:
    joined, mask = pad_features([torch.ones(2, 3), torch.full((4, 3), 2.0)])
    assert joined.shape == (2, 4, 3)
    assert mask.sum(dim=1).tolist() == [2, 4]
    assert float(joined[0, 2:].abs().sum()) == 0.0
    assert list(prefetch(iter([lambda i=i: i for i in range(7)]))) == list(range(7))  # type: ignore[misc] # a lambda's default
