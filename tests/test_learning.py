"""A model that does not learn is told from one that does, within its first steps."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_run import encoded_run, tiny_recipe

from voxella.autoencoder.load import AutoencoderPlan
from voxella.case import Manifest
from voxella.engine.order import SampleKey
from voxella.ldm import learning
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.build import build_model
from voxella.ldm.learning import WARN_FROM_STEP, LearningWatch, NoiseBand, few_cases
from voxella.ldm.monitor import Monitor
from voxella.ldm.sources import open_features, open_latents
from voxella.ldm.train import train
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe
from voxella.report.curves import curves_section
from voxella.report.run_folder import RunFolder

# No text, no adapter: the quickest network to train.
FAST = ("train.log_every=10", "train.checkpoint_every=1000")
ALONE = Ranks(0, 0, 1)


def bands(*ratios: float, cases: float = 10.0) -> list[NoiseBand]:
    return [NoiseBand(ratio * cases, cases, cases) for ratio in ratios]


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "train" / "log.jsonl").read_text().splitlines()]


def test_a_model_that_stays_at_the_zero_predictors_loss_is_told_once() -> None:
    watch = LearningWatch()
    told = [watch.add(step, bands(1.0, 1.0, 0.9995, 1.01)) for step in range(10, 401, 10)]
    (warning,) = [text for text in told if text is not None]
    assert told.index(warning) == WARN_FROM_STEP // 10 - 1
    assert "NOT LEARNING: after 200 steps" in warning
    assert "1.0000, 1.0000, 0.9995, 1.0100" in warning
    assert watch.beats_zero is False
    watch.add(500, bands(1.0, 1.0, 1.0, 0.9))
    assert watch.beats_zero is True


def test_one_band_that_is_better_is_enough_and_chance_is_not() -> None:
    watch = LearningWatch()
    assert watch.add(10, bands(1.0, 1.0, 1.0, 0.5, cases=3)) is None
    assert watch.beats_zero is None, "of three cases nothing is said"
    for step in range(20, 1000, 10):
        assert watch.add(step, bands(1.0, 1.0, 1.0, 0.99)) is None
    assert watch.beats_zero is True


def test_what_is_known_of_few_cases_is_summed_until_it_is_enough() -> None:
    watch = LearningWatch()
    told = [watch.add(step, bands(1.0, 1.0, 1.0, 1.0, cases=1)) for step in range(200, 220)]
    assert [text is not None for text in told] == [False] * 7 + [True] + [False] * 12
    # Only the newest count: what a model did not yet know at its start is no matter.
    for step in range(220, 228):
        watch.add(step, bands(1.0, 1.0, 1.0, 0.9, cases=1))
    assert watch.beats_zero is True


def test_the_zero_predictors_loss_is_that_of_the_target(tmp_path: Path) -> None:
    # E|e| = sqrt(2 / pi) and E e^2 = 1 of a standard normal.
    for kind, expected in (("l1", math.sqrt(2 / math.pi)), ("mse", 1.0)):
        recipe = tiny_recipe(f"loss.reconstruction={kind}", name="base")
        builder = _builder(recipe, tmp_path / kind)
        keys = [SampleKey(f"case-{case}", epoch) for epoch in range(16) for case in range(7)]
        losses = build_model(recipe)(builder.make(keys))
        assert float(losses["zero_per_case"].mean()) == pytest.approx(expected, rel=0.03)
        # A fresh network ends in zeros: it is the zero predictor, to the last bit.
        assert torch.equal(losses["zero_per_case"], losses["reconstruction_per_case"])
        assert not losses["zero_per_case"].requires_grad


def _builder(recipe: Recipe, run: Path) -> LatentBatchBuilder:
    folders = encoded_run(recipe, run)
    cases = {case.id: case for case in Manifest.read(folders.prepared)}
    latents = open_latents(AutoencoderPlan.of(recipe), folders, ALONE)
    text = open_features(recipe.text, folders, cases, recipe.seed)
    return LatentBatchBuilder(BatchSettings.of(recipe), cases, latents, text, scale=1.0)


def test_the_ratio_does_not_depend_on_how_a_step_is_cut(tmp_path: Path) -> None:
    recipe = tiny_recipe(name="base")
    builder = _builder(recipe, tmp_path)
    model = build_model(recipe)
    for parameter in model.parameters():
        parameter.data += 0.02
    keys = [SampleKey(f"case-{case}", epoch) for epoch in range(4) for case in range(7)]
    found = []
    for size in (28, 7, 2):
        monitor = Monitor(ALONE, recipe.diffusion.steps, class_weight=0.0)
        for first in range(0, len(keys), size):
            batch = builder.make(keys[first : first + size])
            monitor.add(batch, model(batch))
        scalars = monitor.read()
        found.append([scalars[f"loss_over_zero/timestep_quartile_{k}"] for k in (1, 2, 3, 4)])
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-5)
    assert all(ratio != 1 for ratio in found[0])


@pytest.mark.slow
def test_a_run_that_stands_still_is_told_and_the_page_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "WARN_FROM_STEP", 40)
    still = tiny_recipe("train.steps=60", "optimizer.lr=1e-12", *FAST, name="base")
    encoded_run(still, tmp_path / "still", cases=24)
    train(still, tmp_path / "still")
    told = capsys.readouterr().err
    assert told.count("NOT LEARNING") == 1
    last = lines(tmp_path / "still")[-1]
    assert last["learning/beats_zero"] == 0.0
    assert last["loss_over_zero/timestep_quartile_4"] == pytest.approx(1.0, abs=1e-5)
    alerts = [chart.alert for chart in curves_section(RunFolder.open(tmp_path / "still")).data]
    assert [text for text in alerts if text] == [
        "The model is not learning: at step 60 its loss was still not below that of a network "
        "that predicts zero, at any noise level."
    ]


@pytest.mark.slow
def test_a_healthy_run_is_not_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Judged five times as early as by the rule: it has left the zero predictor by then.
    monkeypatch.setattr(learning, "WARN_FROM_STEP", 40)
    recipe = tiny_recipe("train.steps=60", *FAST, name="base")
    encoded_run(recipe, tmp_path, cases=24)
    train(recipe, tmp_path)
    assert "NOT LEARNING" not in capsys.readouterr().err
    assert lines(tmp_path)[-1]["learning/beats_zero"] == 1.0
    assert not any(chart.alert for chart in curves_section(RunFolder.open(tmp_path)).data)


def test_a_short_run_is_not_judged_and_a_small_data_set_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe("deepspeed.train_batch_size=8", "train.log_every=1", name="base")
    encoded_run(recipe, tmp_path)  # seven cases
    train(recipe, tmp_path)
    told = capsys.readouterr().err
    assert "SMALLER THAN A BATCH: 7 cases, deepspeed.train_batch_size 8" in told
    assert "--set deepspeed.train_batch_size=7" in told
    assert "NOT LEARNING" not in told
    assert all("learning/beats_zero" not in line for line in lines(tmp_path))
    assert few_cases(8, 8) is None
