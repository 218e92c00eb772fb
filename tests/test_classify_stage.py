"""`voxella classify` end to end on blobs: it learns, resumes bit for bit, says what it measured."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from blob_scenarios import blob_recipe, chosen, real_cases, synthetic_cases
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import (
    SESSION_START_INFO_TAG,
    parse_session_start_info_plugin_data,
)
from tiny_run import REPOSITORY

from voxella.case import Manifest
from voxella.classification.batches import ImageBatchBuilder
from voxella.classification.best_checkpoint import read_best
from voxella.classification.predict import read_predictions
from voxella.classification.stage import classify
from voxella.classification.store import InputStore
from voxella.classification.task import build_task
from voxella.cli import main
from voxella.engine.order import DataOrder
from voxella.engine.precision import autocast_dtype
from voxella.engine.settings import deepspeed_config
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.metrics.delong import auc_estimate
from voxella.metrics.predictions import Predictions
from voxella.pipeline.run import run_stages
from voxella.recipe.load import load_recipe
from voxella.recipe.model import PaperRow

DOWNSTREAM = REPOSITORY / "recipes" / "downstream"
NAMES = sorted(path.stem for path in DOWNSTREAM.glob("[!_]*.yaml"))
FOUR_STEPS = (
    "classify.train.steps=4",
    "classify.train.checkpoint_every=2",
    "classify.train.validate_every=2",
    "classify.deepspeed.train_batch_size=3",
    "classify.augment.probability=0.5",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with prepared real cases and a synthetic data set."""
    run = tmp_path_factory.mktemp("blobs")
    real = real_cases(run / "prepared", {"train": 8, "val": 4, "test": 8})
    synthetic_cases(run / "samples", real)
    return run


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Path:
    shutil.copytree(data, tmp_path / "run")
    return tmp_path / "run"


def metrics(folder: Path | None) -> dict[str, dict[str, object]]:
    assert folder is not None
    found: dict[str, dict[str, object]] = json.loads((folder / "metrics.json").read_text())
    return found["metrics"]  # type: ignore[return-value]  # one level of the file


def test_a_separable_problem_is_learnt(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = blob_recipe(
        "real",
        *("classify.train.steps=30", "classify.train.checkpoint_every=30"),
        *("classify.train.validate_every=5", "classify.optimizer.lr=1e-2"),
        "classify.deepspeed.train_batch_size=4",
        "classify.augment={probability: 0.5}",
        "classify.classifier.channels=[8, 8]",
    )
    folder = classify(recipe, run)
    assert folder == run / "classify" / "real"
    found = metrics(folder)
    assert found["auc"]["value"] == 1.0
    assert found["percent_positive"]["value"] == 50.0
    test = read_predictions(folder / "seed-0" / "predictions.jsonl", "test")
    assert isinstance(test, Predictions)
    assert auc_estimate(test.truth, test.scores).value == 1.0
    assert (test.truth == [n % 2 == 1 for n in range(8)]).all()
    first = json.loads((folder / "seed-0" / "log.jsonl").read_text().splitlines()[0])
    last = json.loads((folder / "seed-0" / "log.jsonl").read_text().splitlines()[-1])
    assert last["loss/total"] < first["loss/total"]
    # Another network than the paper's: its row stays away, and that is said.
    said = capsys.readouterr().out
    assert "the paper's row (R) is not shown: the classifier is cnn" in said
    assert found["auc"]["comparable_with_paper"] is False


def test_baselines_are_measured_beside_the_network(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = blob_recipe("real", *FOUR_STEPS, "classify.baselines=[logistic, neighbours]")
    folder = classify(recipe, run)
    assert folder is not None
    found = json.loads((folder / "metrics.json").read_text())
    assert list(found["baselines"]) == ["logistic", "neighbours"]
    for name, one in found["baselines"].items():
        assert one["features"] == 8 * 8 * 4, name
        # The blob is there for anybody to see; eight test cases.
        assert one["metrics"]["auc"]["value"] == 1.0, name
        assert one["metrics"]["auc"]["n"] == 8, name
        assert one["chosen"]["val_auc"] == 1.0, name
    assert found["baselines"]["neighbours"]["chosen"]["neighbours"] <= 8
    assert "baselines on coarse images" in capsys.readouterr().out
    before = (folder / "metrics.json").stat().st_mtime_ns
    classify(recipe, run)
    assert (folder / "metrics.json").stat().st_mtime_ns == before
    classify(blob_recipe("real", *FOUR_STEPS), run)
    plain = json.loads((folder / "metrics.json").read_text())
    assert "baselines" not in plain
    assert plain["metrics"] == found["metrics"]


def test_tensorboard_has_the_results_beside_the_settings(run: Path) -> None:
    watched = ("observers=[{name: tensorboard}]", "name=watched")
    folder = classify(blob_recipe("real", *FOUR_STEPS, *watched), run)
    assert folder is not None
    events = EventAccumulator(str(run / "tensorboard" / "classify" / "watched"))
    events.Reload()
    known = {name: n["value"] for name, n in metrics(folder).items() if n["value"] is not None}
    assert {"auc", "accuracy", "percent_positive"} <= set(known)
    assert set(events.Tags()["scalars"]) == set(known)
    for name, value in known.items():
        (event,) = events.Scalars(name)
        assert event.value == pytest.approx(value, rel=1e-5)
    content = events.summary_metadata[SESSION_START_INFO_TAG].plugin_data.content
    settings = parse_session_start_info_plugin_data(content).hparams
    assert settings["classify.train.steps"].number_value == 4
    assert settings["classify.training_set"].string_value == "real"
    assert not any("samples" in key for key in settings)


def test_a_killed_training_ends_as_one_that_was_not(run: Path, tmp_path: Path) -> None:
    recipe = blob_recipe("real", *FOUR_STEPS)
    whole = classify(recipe, run)
    assert whole is not None
    kept = ["best.safetensors", "predictions.jsonl", "validation.jsonl"]
    expected = {name: sha256_file(whole / "seed-0" / name) for name in kept}

    other = tmp_path / "other"
    shutil.copytree(run / "prepared", other / "prepared")
    assert classify(recipe, other, stop_after=2) is None
    seed = other / "classify" / "real" / "seed-0"
    assert not (seed / "predictions.jsonl").exists()
    # As if killed between the checkpoint of step 2 and its validation.
    (seed / "validation.jsonl").unlink()
    (seed / "best.safetensors").unlink()
    classify(recipe, other)
    assert {name: sha256_file(seed / name) for name in kept} == expected
    losses = [(whole / "seed-0" / "log.jsonl"), seed / "log.jsonl"]
    first, second = ([json.loads(x)["loss/total"] for x in p.open()] for p in losses)
    assert first == second
    assert len(first) == 4

    # Up to date: nothing is trained, predicted or written again.
    before = {p: p.stat().st_mtime_ns for p in other.rglob("*") if p.is_file()}
    classify(recipe, other)
    assert {p: p.stat().st_mtime_ns for p in other.rglob("*") if p.is_file()} == before
    # Another training does not go on from this one's checkpoints.
    with pytest.raises(UserError, match="trained by another recipe"):
        classify(blob_recipe("real", *FOUR_STEPS, "classify.loss.gamma=1"), other)


def test_more_seeds_keep_the_ones_that_are_there(run: Path) -> None:
    folder = classify(blob_recipe("real_synth_predicted", *FOUR_STEPS), run)
    assert folder is not None
    before = (folder / "seed-0" / "best.safetensors").stat().st_mtime_ns
    alone = metrics(folder)["accuracy"]
    classify(blob_recipe("real_synth_predicted", *FOUR_STEPS, "classify.seeds=2"), run)
    assert (folder / "seed-0" / "best.safetensors").stat().st_mtime_ns == before
    weights = [sha256_file(folder / f"seed-{seed}" / "best.safetensors") for seed in (0, 1)]
    assert weights[0] != weights[1]
    found = json.loads((folder / "metrics.json").read_text())
    assert sorted(found["seeds"]) == ["0", "1"]
    each = [found["seeds"][seed]["metrics"]["accuracy"]["value"] for seed in ("0", "1")]
    assert each[0] == alone["value"]
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(sum(each) / 2)
    assert "2 trainings" in found["metrics"]["accuracy"]["how"]
    assert found["cases"] == {"train": 16, "val": 4, "test": 8}


def test_the_second_training_starts_from_the_best_of_the_first(run: Path) -> None:
    recipe = blob_recipe("pretrain_finetune", "classify.optimizer.lr=1e-2")
    folder = classify(recipe, run)
    assert folder is not None
    assert recipe.classify is not None
    seed = folder / "seed-0"
    records = [json.loads((p / "stage.json").read_text()) for p in (seed / "pretrain", seed)]
    assert [record["facts"]["training_cases"] for record in records] == [8, 8]
    assert records[1]["inputs"]["before"] == sha256_file(seed / "pretrain" / "best.safetensors")
    made = Manifest.read(run / "samples")
    assert made.cases[0].id not in (seed / "predictions.jsonl").read_text()

    # Its first step's loss is that of the first training's best weights on real images.
    cases = chosen(recipe, Manifest.read(run / "prepared"), made).phases
    store = InputStore(run / "classifier_inputs", recipe.classify, ["t2w"])
    builder = ImageBatchBuilder(cases[1][1], store, ["negative", "positive"], "positive", seed=0)
    batch = builder.make(DataOrder(list(builder.cases), seed=0, batch_size=2).step(0))
    model = build_task(recipe.classify, recipe.image_channels, len(recipe.data.classes), 0)
    untrained = float(model(batch)["total"].detach())
    model.load_state_dict(read_best(seed / "pretrain")[0])
    expected = float(model(batch)["total"].detach())
    first = json.loads((seed / "log.jsonl").read_text().splitlines()[0])
    assert first["loss/total"] == pytest.approx(expected, rel=1e-5)
    assert abs(expected - untrained) > 1e-3


def test_without_test_cases_numbers_are_absent_with_the_reason(tmp_path: Path) -> None:
    run = tmp_path / "run"
    real_cases(run / "prepared", {"train": 4, "val": 2}, label_source="phantom")
    found = metrics(classify(blob_recipe("real"), run))
    for name in ("auc", "ap", "accuracy", "sensitivity", "specificity", "ppv", "npv"):
        assert found[name]["value"] is None
        assert found[name]["note"] == "no labelled case in the split test"
    assert found["percent_positive"]["value"] == 50.0
    curves = json.loads((run / "classify" / "real" / "curves.json").read_text())
    assert curves["seeds"] == {"0": None}


def test_what_is_missing_or_wrong_is_told_before_any_work(run: Path, tmp_path: Path) -> None:
    base = load_recipe(REPOSITORY / "recipes" / "base.yaml", ["smoke"])
    with pytest.raises(UserError, match="no classify block"):
        run_stages(base, run, until="classify")
    wrong = blob_recipe(
        "real",
        *("classify.size=[8, 8]", "classify.percentiles=[9, 3]"),
        *("classify.augment.zoom=[0, 1]", "classify.train.panel_every=3"),
        "classify.deepspeed.optimiser=1",
    )
    with pytest.raises(UserError) as error:
        run_stages(wrong, run, until="classify")
    named = ("size", "percentiles", "zoom", "panels", "optimiser")
    for words in (*named, "translate_share: has 3 numbers, classify.size has 2 axes"):
        assert words in str(error.value), words
    shutil.move(run / "samples", run / "volumes" / "steps-20")
    swept = blob_recipe("synth_clinical", f"classify.samples={run / 'volumes'}")
    with pytest.raises(UserError, match="no synthetic data set") as error:
        classify(swept, run)
    assert "steps-20" in str(error.value)


# recipes

# Table 3 of arXiv 2506.10230, typed from the paper: AUC, AP, accuracy, sensitivity, specificity,
# PPV, NPV, percent positive.
PAPER: dict[str, tuple[float, ...]] = {
    "real": (0.76, 0.73, 0.69, 0.67, 0.72, 0.75, 0.63, 48),
    "synth_clinical": (0.77, 0.77, 0.64, 0.51, 0.81, 0.77, 0.57, 48),
    "synth_predicted": (0.80, 0.80, 0.66, 0.50, 0.87, 0.83, 0.58, 39),
    "real_synth_clinical": (0.80, 0.79, 0.74, 0.71, 0.77, 0.80, 0.68, 48),
    "real_synth_predicted": (0.79, 0.79, 0.71, 0.71, 0.72, 0.76, 0.66, 43),
}
KEYS = ("auc", "ap", "accuracy", "sensitivity", "specificity", "ppv", "npv", "percent_positive")


def test_the_recipes_are_the_papers_five_and_one_more() -> None:
    assert sorted([*PAPER, "pretrain_finetune"]) == NAMES
    assert load_recipe(DOWNSTREAM / "pretrain_finetune.yaml").paper is None
    for name, numbers in PAPER.items():
        paper = load_recipe(DOWNSTREAM / f"{name}.yaml").paper
        assert paper is not None
        row = {key: None for key in PaperRow.model_fields} | dict(zip(KEYS, numbers, strict=True))
        assert {key: getattr(paper, key) for key in row} == {**row, "model": paper.model}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_the_papers_training_and_loads_under_every_profile(name: str) -> None:
    recipe = load_recipe(DOWNSTREAM / f"{name}.yaml")
    settings = recipe.classify
    assert settings is not None
    assert recipe.name == name
    assert settings.classifier.name == "efficientnet"
    assert (settings.size, settings.percentiles) == ([256, 256, 32], (0.0, 98.0))
    assert settings.augment.decides() == {
        "probability": 0.5,
        "flip": True,
        "rotate_degrees": 15.0,
        # The released call: 25, 25 and 2 voxels of 256 x 256 x 32.
        "translate_share": [25 / 256, 25 / 256, 2 / 32],
        "zoom": [0.9, 1.1],
    }
    assert (settings.slice_mm, settings.slice_interpolation) == (3.0, "lanczos")
    assert (settings.optimizer.lr, settings.optimizer.decay_power) == (1e-4, 2.0)
    assert (settings.train.steps, settings.deepspeed["train_batch_size"]) == (16000, 64)
    # 16 cases a process on four GPUs, 16 at a time wherever there are fewer; float32.
    for world, accumulation in ((1, 4), (2, 2), (4, 1)):
        config = deepspeed_config(settings.deepspeed, world=world, device=None)
        assert config["train_micro_batch_size_per_gpu"] == 16
        assert config["gradient_accumulation_steps"] == accumulation
        assert autocast_dtype(settings.deepspeed) is None
        assert "bf16" not in config
        assert "fp16" not in config
    with pytest.raises(UserError, match="train_batch_size"):
        deepspeed_config(settings.deepspeed, world=8, device=None)
    # The generator is the paper's CCELLA, unchanged.
    ours = load_recipe(REPOSITORY / "recipes" / "ccella.yaml")
    for block in ("conditioner", "backbone", "vectors", "diffusion", "loss", "train", "seed"):
        assert getattr(recipe, block) == getattr(ours, block)
    for profile in ("smoke", "demo", "phantoms", "two-cores", "gpu24", "gpu80"):
        under = load_recipe(DOWNSTREAM / f"{name}.yaml", [profile])
        assert under.paper == recipe.paper
        assert under.classify is not None
        assert under.classify.training_set == settings.training_set


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_executable_and_says_how(name: str) -> None:
    file = DOWNSTREAM / f"{name}.yaml"
    assert os.access(file, os.X_OK)
    lines = file.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env -S voxella classify"
    commands = [re.split(r"\s{2,}", line[1:].strip())[0] for line in lines if "--out RUN" in line]
    assert commands == [
        f"voxella classify recipes/downstream/{name}.yaml --out RUN",
        f"deepspeed --no_python recipes/downstream/{name}.yaml --out RUN",
    ]


def test_the_command_line_needs_no_generator_for_real_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(DOWNSTREAM / "real.yaml"), "--profile", "smoke", "--out", str(tmp_path)]
    assert main([*command, "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("== ")] == [
        "== import",
        "== prepare",
        "== classify",
    ]
    assert not (tmp_path / "model").exists()
    found = metrics(tmp_path / "classify" / "real")
    assert found["auc"]["comparable_with_paper"] is False
    assert "the paper's row (R) is not shown: the data are phantoms" in said
    assert main(["classify", *command[1:], "--seeds", "none"]) == 2
    assert "classify.seeds" in capsys.readouterr().err


def test_samples_that_are_not_there_are_refused_before_anything_is_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(REPOSITORY / "recipes" / "downstream" / "synth_clinical.yaml")
    command = ["classify", recipe, "--profile", "smoke", "--out", str(tmp_path / "run")]
    assert main([*command, "--set", f"classify.samples={tmp_path / 'nowhere'}"]) == 2
    assert "holds no synthetic data set" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "manifest.jsonl").write_text("\n")
    assert main([*command, "--set", f"classify.samples={tmp_path / 'empty'}"]) == 2
    assert "holds no case" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
