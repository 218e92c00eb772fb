"""Training through DeepSpeed: resume bit for bit, under every ZeRO stage, on 1 and 2 processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import encoded_run, tiny_recipe

import voxella
import voxella.ldm.train as ldm_train
from voxella.cache.latents import LatentCache
from voxella.cache.text import TextCache
from voxella.case import Manifest
from voxella.engine.log import LossLog
from voxella.engine.order import SampleKey
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.train import train
from voxella.observers.dispatch import ObserverSet

DRIVER = Path(__file__).parent / "training_driver.py"
STAGES = ("0", "1", "2", "3")


def launch(folder: Path, world: int, stages: str, plans: str, *overrides: str) -> str:
    """Run the driver under torch's launcher and return what it printed."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(world), str(DRIVER), str(folder), stages, plans, *overrides),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=DRIVER.parent, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def losses(run: Path) -> list[float]:
    lines = (run / "train" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss/total"] for line in lines]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole and resumed runs of every ZeRO stage, on 1 process (w1) and on 2 (w2)."""
    folder = tmp_path_factory.mktemp("trained")
    for world in (1, 2):
        launch(folder / f"w{world}", world, ",".join(STAGES), "whole,stop,go")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_run_equals_an_uninterrupted_one(trained: Path, world: int, stage: str) -> None:
    whole, resumed = (trained / f"w{world}" / f"{kind}-{stage}" for kind in ("whole", "resumed"))
    assert losses(whole) == losses(resumed)
    assert len(losses(whole)) == 4
    exported = "model/model.safetensors"
    assert sha256_file(whole / exported) == sha256_file(resumed / exported)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_learn_what_one_learns(trained: Path, stage: str) -> None:
    one, two = (trained / f"w{world}" / f"whole-{stage}" for world in (1, 2))
    assert losses(one) == pytest.approx(losses(two), rel=1e-5)
    first, second = weights(one), weights(two)
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=2e-5)


@pytest.mark.slow
def test_zero_stages_agree(trained: Path) -> None:
    runs = [trained / "w1" / f"whole-{stage}" for stage in STAGES]
    for run in runs[1:]:
        assert losses(run) == pytest.approx(losses(runs[0]), rel=1e-5)
        for name, tensor in weights(run).items():
            torch.testing.assert_close(tensor, weights(runs[0])[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_exported_weights_are_the_average_and_load_without_the_run(trained: Path) -> None:
    run = trained / "w1" / "whole-0"
    model = voxella.load_model(run / "model")
    average = torch.load(run / "checkpoints" / "step-00000004" / "ema.pt", weights_only=True)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, average["shadow"][name]), name
    facts = json.loads((run / "model" / "config.json").read_text())
    assert facts["classes"] == ["negative", "positive"]
    assert facts["spacing_mm"] == {"min": [2.0, 2.0, 3.0], "max": [2.0, 2.0, 3.6]}
    assert facts["step"] == 4
    assert facts["averaged"] is True
    assert model.latent_scale == pytest.approx(facts["latent_scale"])
    assert model.null_text is not None
    assert model.null_text.shape == (1, 2, 12)


@pytest.mark.slow
def test_precisions_and_accumulation_train(tmp_path: Path) -> None:
    """bf16 by autocast and by cast, under ZeRO 0 and 2, with accumulation: close to fp32."""
    launch(tmp_path / "fp32", 1, "0", "whole")
    launch(tmp_path / "accumulated", 2, "2", "whole", "deepspeed.gradient_accumulation_steps=2")
    launch(
        *(tmp_path / "autocast", 1, "0,3", "whole"),
        "deepspeed.torch_autocast={enabled: true, dtype: bfloat16}",
    )
    launch(tmp_path / "bf16", 1, "2,3", "whole", "deepspeed.bf16={enabled: true}")
    reference = losses(tmp_path / "fp32" / "whole-0")
    accumulated = losses(tmp_path / "accumulated" / "whole-2")
    assert accumulated == pytest.approx(reference, rel=1e-5)
    for kind, stages in (("autocast", "03"), ("bf16", "23")):
        for stage in stages:
            run = tmp_path / kind / f"whole-{stage}"
            assert losses(run) == pytest.approx(reference, rel=0.03), (kind, stage)
            assert losses(run) != reference


def test_an_exported_model_that_was_changed_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    encoded_run(recipe, tmp_path)
    assert train(recipe, tmp_path) == tmp_path / "model"
    path = tmp_path / "model" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="not the file that was exported"):
        voxella.load_model(tmp_path / "model")


def test_checkpoints_are_kept_by_two_and_a_partial_one_is_ignored(tmp_path: Path) -> None:
    recipe = tiny_recipe("train.checkpoint_every=1")
    encoded_run(recipe, tmp_path)
    assert train(recipe, tmp_path, stop_after=3) is None
    folder = tmp_path / "checkpoints"
    assert sorted(p.name for p in folder.glob("step-*")) == ["step-00000002", "step-00000003"]
    # What a kill in the middle of writing leaves: the newest folder without its marker.
    (folder / "step-00000003" / "complete.json").unlink()
    assert train(recipe, tmp_path) is not None
    whole = tmp_path / "whole"
    encoded_run(recipe, whole)
    train(recipe, whole)
    exported = "model/model.safetensors"
    assert sha256_file(tmp_path / exported) == sha256_file(whole / exported)
    # A finished run is left alone.
    before = (tmp_path / exported).stat().st_mtime_ns
    train(recipe, tmp_path)
    assert (tmp_path / exported).stat().st_mtime_ns == before


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    encoded_run(recipe, tmp_path)
    train(recipe, tmp_path, stop_after=2)
    with pytest.raises(UserError, match="trained by another recipe") as caught:
        train(tiny_recipe("optimizer.lr=0.5"), tmp_path)
    assert "optimizer.lr: 0.0001 -> 0.5" in str(caught.value)
    assert "--set optimizer.lr=0.0001" in str(caught.value)
    offloaded = "deepspeed.zero_optimization={stage: 1, offload_optimizer: {device: cpu}}"
    with pytest.raises(UserError, match="ZeRO stage") as caught:
        train(tiny_recipe(offloaded), tmp_path)


@pytest.mark.parametrize("stage", [2])
def test_one_process_takes_stage_0_and_says_so(
    stage: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Begun, interrupted, continued and exported: the weights and the fingerprint of stage 0."""
    recipe = tiny_recipe(f"deepspeed.zero_optimization.stage={stage}")
    encoded_run(recipe, tmp_path / "asked")
    train(recipe, tmp_path / "asked", stop_after=2)
    assert f"stage {stage} shards nothing" in capsys.readouterr().out
    train(recipe, tmp_path / "asked")
    encoded_run(tiny_recipe(), tmp_path / "plain")
    capsys.readouterr()
    train(tiny_recipe("deepspeed.zero_optimization.stage=0"), tmp_path / "plain")
    assert "shards nothing" not in capsys.readouterr().out
    weights = "model/model.safetensors"
    assert sha256_file(tmp_path / "asked" / weights) == sha256_file(tmp_path / "plain" / weights)


@pytest.mark.parametrize("stage", [2])
def test_a_training_begun_under_a_stage_alone_is_continued_under_it(
    stage: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As releases before wrote it; its end is that of a training that was never interrupted."""
    recipe = tiny_recipe(f"deepspeed.zero_optimization.stage={stage}")
    encoded_run(recipe, tmp_path)
    with monkeypatch.context() as before:
        before.setattr(ldm_train, "block_here", lambda block, *_: block)
        train(recipe, tmp_path, stop_after=2)
        whole = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-whole"))
        train(recipe, whole)
    train(recipe, tmp_path)
    assert f"ZeRO stage {stage}: as the checkpoint was written" in capsys.readouterr().out
    marker = json.loads(next((tmp_path / "checkpoints").glob("*/complete.json")).read_text())
    assert marker["facts"]["zero_stage"] == stage
    weights = "model/model.safetensors"
    assert sha256_file(tmp_path / weights) == sha256_file(whole / weights)


def test_a_loss_that_is_not_finite_stops_with_the_case_and_a_safe_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe("train.checkpoint_every=1", "deepspeed.train_batch_size=1")
    encoded_run(recipe, tmp_path)
    genuine = LatentCache.read
    poisoned = "case-3"

    def read(cache: LatentCache, case_id: str, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_sigma = genuine(cache, case_id, epoch)
        return (mean * float("nan"), log_sigma) if case_id == poisoned else (mean, log_sigma)

    monkeypatch.setattr(LatentCache, "read", read)
    with pytest.raises(UserError, match=f"is not finite, at cases {poisoned}; training stopped"):
        train(tiny_recipe("train.checkpoint_every=1", "train.steps=14"), tmp_path)
    for folder in (tmp_path / "checkpoints").glob("step-*"):
        state = torch.load(folder / "ema.pt", weights_only=True)
        assert all(bool(value.isfinite().all()) for value in state["shadow"].values())


def test_guidance_dropout_paper_mode_and_flow_train(tmp_path: Path) -> None:
    for name, overrides in {
        "ccella": ("dropout.both=0.5",),
        "ccella-released": (),
        "ccella-rflow": (),
        "ccella-dit": (
            "backbone={name: dit3d, patch_size: 2, width: 24, depth: 1, heads: 2}",
            "train.gradient_checkpointing=true",
        ),
    }.items():
        recipe = tiny_recipe(*overrides, name="ccella" if name == "ccella-dit" else name)
        encoded_run(recipe, tmp_path / name)
        train(recipe, tmp_path / name)
        assert (tmp_path / name / "model" / "config.json").is_file()


def test_validation_measures_the_average_on_held_out_cases_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, dict[int, float]] = {}
    monkeypatch.setattr(
        ObserverSet,
        "metric",
        lambda self, step, name, value: told.setdefault(name, {}).update({step: value}),
    )
    recipe = tiny_recipe("train.validate_every=2")
    encoded_run(recipe, tmp_path, held_out=3)
    train(recipe, tmp_path)
    seen = told["validation/reconstruction"]
    assert sorted(seen) == [2, 4]
    # By hand, from the exported average: three cases, four looks each.
    model = voxella.load_model(tmp_path / "model")
    cases = {case.id: case for case in Manifest.read(tmp_path / "prepared").split("val")}
    builder = LatentBatchBuilder(
        BatchSettings.of(recipe),
        cases,
        LatentCache.open(tmp_path / "latents"),
        TextCache.open(tmp_path / "text"),
        model.latent_scale,
    )
    keys = [SampleKey(case, look) for case in cases for look in range(4)]
    batches = [builder.make([key]) for key in keys]
    with torch.no_grad():
        by_hand = [model(batch)["reconstruction"].item() for batch in batches]
    assert seen[4] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)
    # And by quarter of the schedule, beside the loss of a network that predicts 0.
    zeros = [float(batch.noise.abs().mean()) for batch in batches]
    quarters = [int(batch.timesteps[0]) // 250 for batch in batches]
    assert len(set(quarters)) > 1
    for number in range(4):
        here = [index for index, quarter in enumerate(quarters) if quarter == number]
        name = f"timestep_quartile_{number + 1}"
        assert (f"validation/{name}" in told) == bool(here)
        if here:
            loss, zero = (sum(values[i] for i in here) / len(here) for values in (by_hand, zeros))
            assert told[f"validation/{name}"][4] == pytest.approx(loss, rel=1e-5)
            assert told[f"validation/zero_{name}"][4] == pytest.approx(zero, rel=1e-5)
            ratio = told[f"validation_over_zero/{name}"][4]
            assert ratio == pytest.approx(loss / zero, rel=1e-5)
    # Measuring changes nothing that is trained.
    blind = tmp_path / "blind"
    encoded_run(recipe, blind, held_out=3)
    train(tiny_recipe(), blind)
    exported = "model/model.safetensors"
    assert sha256_file(tmp_path / exported) == sha256_file(blind / exported)


def test_compile_reaches_the_backbone_and_changes_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the eager backend: the graph is captured as for a GPU, no C++ is built."""
    compiled: list[str] = []
    genuine = torch.nn.Module.compile

    def compile_eagerly(module: torch.nn.Module) -> None:
        compiled.append(type(module).__name__)
        genuine(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    recipe = tiny_recipe("train.compile=true", "train.steps=2")
    encoded_run(recipe, tmp_path)
    train(recipe, tmp_path)
    assert compiled == ["MaisiUNet"]
    kept = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    voxella.load_model(tmp_path / "model")


def test_optimizer_offload_trains_the_same(tmp_path: Path) -> None:
    runs = {}
    for name, more in {"plain": "", "offloaded": ", offload_optimizer: {device: cpu}"}.items():
        recipe = tiny_recipe(f"deepspeed.zero_optimization={{stage: 2{more}}}", "train.log_every=1")
        encoded_run(recipe, tmp_path / name)
        train(recipe, tmp_path / name)
        runs[name] = losses(tmp_path / name)
    assert runs["plain"] == pytest.approx(runs["offloaded"], rel=1e-5)


def test_log_drops_what_an_interrupted_run_wrote_after_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    LossLog(path, first_step=2).write(3, {"loss/total": 1.0})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1},
        {"step": 2},
        {"step": 3, "loss/total": 1.0},
    ]


def test_training_asks_for_its_caches(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    folders = encoded_run(recipe, tmp_path)
    (folders.latents / "index.json").unlink()
    with pytest.raises(UserError, match="voxella encode"):
        train(recipe, tmp_path)
