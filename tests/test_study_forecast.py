"""What a dry run says, against numbers known from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_run import REPOSITORY, tiny_recipe

from voxella.autoencoder.load import AutoencoderPlan
from voxella.cli import main
from voxella.errors import UserError
from voxella.forecast.devices import find_speed
from voxella.forecast.flops import Counted, _Kept, count_autoencoder, count_classifier, count_model
from voxella.forecast.memory import training_memory
from voxella.forecast.sizes import (
    Cases,
    classifier_steps,
    count_cases,
    sampled,
    samples_bytes,
    steps_of,
    training_bytes,
    voxels_of,
    work_bytes,
)
from voxella.ldm.build import build_model
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe

RECIPES = REPOSITORY / "recipes"
PAPER = Cases(5071, 5811, "the paper's")


def paper(name: str = "ccella", *overrides: str) -> Recipe:
    return load_recipe(RECIPES / f"{name}.yaml", overrides=overrides)


def test_the_papers_networks_are_counted_without_memory() -> None:
    counted = count_model(paper("base"))
    assert counted is not None
    # MONAI's MAISI U-Net at the paper's widths, without attention to text.
    assert counted.parameters == 166_254_852
    # Backward is about twice forward.
    assert 2.9 < counted.train / counted.forward < 3.1
    checkpointed = count_model(paper("base", "train.gradient_checkpointing=true"))
    assert checkpointed is not None
    # What is thrown away is computed again.
    assert checkpointed.activations < counted.activations / 2
    assert 3.5 < checkpointed.train / counted.forward < 4.1
    real = paper("downstream/real")
    assert real.classify is not None
    classifier = count_classifier(real.classify, real.image_channels, len(real.data.classes))
    assert classifier is not None
    assert classifier.train == 3 * classifier.forward
    # MONAI's 3D EfficientNet-b0 with two classes.
    assert classifier.parameters == 4_690_942
    recipe = paper()
    coder = count_autoencoder(AutoencoderPlan.of(recipe), recipe.prepare.size)
    assert coder is not None
    assert coder[1] > coder[0] > 1e12


def test_operations_on_nothing_are_those_on_real_tensors() -> None:
    recipe = tiny_recipe()
    counted = count_model(recipe)
    assert counted is not None
    model = build_model(recipe)
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    # A case is a case: twice the tokens is more work, and not twice as much of all of it.
    longer = count_model(tiny_recipe("text.max_tokens=128"))
    assert longer is not None
    assert counted.forward < longer.forward < 2 * counted.forward


def test_the_length_of_training_is_the_papers() -> None:
    recipe = paper()
    # 400 epochs of 5,071 cases in batches of 16.
    assert steps_of(recipe.train, PAPER.train, 16) == 126_775
    # A counterpart of every test case and of every training case.
    assert sampled(recipe.sample, PAPER) == 740 + 5071
    assert sampled(recipe.sample, PAPER, ("train",)) == 5071
    assert sampled(paper("ccella", "sample.count=8", "sample.per_case=2").sample, PAPER) == 2 * 16
    assert sampled(paper("ccella", "sample.split=test").sample, PAPER) == 740
    settings = paper("downstream/real").classify
    assert settings is not None
    assert classifier_steps(settings, PAPER, 5071) == 16_000
    both = paper(
        "downstream/real_synth_clinical",
        *("classify.train.steps=null", "classify.train.epochs=2", "classify.seeds=3"),
    ).classify
    assert both is not None
    # Two epochs of 6,000 in batches of 64, the last one filled up.
    assert classifier_steps(both, PAPER, 929) == 3 * 188


def test_activations_of_a_known_network_are_counted() -> None:
    """A linear layer keeps its input, a ReLU its output; the last layer's input is that output."""
    layers = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    kept = _Kept(layers)
    kept.watch(lambda: layers(torch.ones(5, 8)).sum())
    assert kept.nbytes == 4 * 5 * (8 + 16)
    counted = Counted(parameters=100, forward=0, train=0, activations=1000)
    # Two cases of a process: weights, moments, gradients and what is kept, in half in bfloat16.
    train, block = paper("ccella", "train.ema_decay=null").train, {"train_batch_size": 16}
    block |= {"train_micro_batch_size_per_gpu": 2}
    assert training_memory(train, block, counted, None, 4) == 100 * (4 + 8 + 4) + 2000
    reduced = block | {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}
    assert training_memory(train, reduced, counted, None, 4) == 100 * (4 + 8 + 4) + 1000
    with pytest.raises(UserError, match="does not divide among 3"):
        training_memory(train, {"train_batch_size": 16}, counted, None, 3)


def test_the_disk_holds_what_the_caches_say() -> None:
    recipe, base = paper(), paper("base")
    voxels = voxels_of(1, recipe.prepare)
    ten = Cases(train=6, all=10, basis="")
    found = work_bytes(ten, voxels, recipe.latent, recipe.text)
    assert found["prepared"] == 10 * 256 * 256 * 128 * 4
    # Mean and log sigma in float32, and one statistic.
    assert found["latents"] == 10 * (2 * 4 * 64 * 64 * 32 * 4 + 8)
    assert found["text"] == 10 * 512 * 4096 * 2
    assert "text" not in work_bytes(ten, voxels, base.latent, base.text)
    volume = 256 * 256 * 128 * 2
    assert samples_bytes(recipe.sample, 3, voxels) == 3 * volume
    assert training_bytes(recipe.train, 100) == 100 * (3 * (4 + 8 + 4) + 4)


def test_cases_are_counted_or_their_number_is_said_to_be_assumed(tmp_path: Path) -> None:
    data = paper().data
    assert count_cases(data, 5071) == Cases(5071, 5811, count_cases(data, 5071).basis)
    assert count_cases(paper("ccella", "data.importer.cases=48").data, None).all == 48
    assert "ASSUMED" in count_cases(data, None).basis
    with pytest.raises(UserError, match="no data set here"):
        count_cases(paper("ccella", f"data.dataset={tmp_path}").data, None)


def test_a_measured_speed_is_preferred_to_a_data_sheet(tmp_path: Path) -> None:
    assumed = find_speed("A100", tmp_path)
    assert assumed.train == pytest.approx(0.12 * 312)
    # The released code: 1,000 steps of 1.08 TFLOP in 57 s on an A100.
    assert assumed.sample == pytest.approx(1080 / 57, rel=0.05)
    assert all("ASSUMED" in line for line in assumed.basis)
    measured = {"what": "train_step", "device": "NVIDIA A100-SXM4-80GB", "achieved_tflops": 77.5}
    for size, speed in (("small", 5.0), ("paper", 77.5)):
        result = measured | {"size": size, "achieved_tflops": speed}
        (tmp_path / f"{size}.json").write_text(json.dumps(result))
    found = find_speed("A100", tmp_path)
    assert found.train == 77.5
    assert "measured on NVIDIA A100-SXM4-80GB at size paper" in found.basis[0]
    assert found.sample == assumed.sample
    with pytest.raises(UserError, match="the speed of Abacus is not known"):
        find_speed("Abacus", tmp_path)


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = str(RECIPES / "studies" / "table3.yaml")
    options = ["--profile", "smoke", "--dry-run", "--device", "A100", "--cases", "100"]
    assert main(["study", study, *options]) == 0
    said = capsys.readouterr().out
    order = [said.index(f" {name} ") for name in ("ccella", "real", "real_synth_predicted")]
    assert order == sorted(order)
    assert "GPU hours" in said
    assert "100 to train on of 115 (as asked for" in said
    assert "ASSUMED 12% of 312 TFLOP/s" in said
    assert "35 verdicts" in said
    assert "could not run" not in said
    assert not list(tmp_path.iterdir())
