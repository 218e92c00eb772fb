"""The autoencoder as a task of the engine: processes, ZeRO, average, validation, own losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_autoencoder import CPU, Codebook, make_prepared, recipe, volumes_of
from tiny_autoencoder import train_autoencoder as train
from torch import Tensor, nn

from voxella.autoencoder.adversary import Adversary, AdversaryTraining
from voxella.autoencoder.load import AutoencoderPlan, build_autoencoder, load_autoencoder
from voxella.autoencoder.losses import autoencoder_losses
from voxella.autoencoder.patches import PatchBatchBuilder, PatchKey, PatchOrder
from voxella.autoencoder.settings import engine_block
from voxella.autoencoder.task import AutoencoderTask, autocast
from voxella.autoencoder.train import train_autoencoder
from voxella.cache.latents import LatentCache
from voxella.cache.stage import encode
from voxella.engine.checkpoint_store import CheckpointStore
from voxella.engine.order import DataOrder
from voxella.errors import UserError
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ranks import Ranks
from voxella.recipe.training import Adversarial, AutoencoderTraining
from voxella.testing.autoencoders import AutoencoderContract

DRIVER = Path(__file__).parent / "autoencoder_driver.py"
ADVERSARY = {"layers": 1, "channels": 4, "from_step": 2}
# Three patches divide neither among two processes nor among their micro batches; at the end one
# whole volume leaves a process with nothing.
UNEVEN: dict[str, Any] = {
    "steps": 11,
    "batch_size": 3,
    "patch_size": [8, 8, 8],
    "gradient_weight": 0.1,
    "adversarial": ADVERSARY,
}
VQ = {"name": "codebook"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"), splits="ttttvv")


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELLA_PLUGINS", "autoencoders:codebook=tiny_autoencoder:codebook")


def launch(folder: Path, prepared: Path, world: int, plans: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "prepared").symlink_to(prepared)
    (folder / "plans.json").write_text(json.dumps(plans))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world))
    command = [sys.executable, *(launcher if world > 1 else ()), str(DRIVER), str(folder)]
    done = subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def furthest(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> list[Tensor]:
    return [one[name] - two[name] for name in one]


def norm(tensors: list[Tensor]) -> float:
    return float(torch.nn.utils.get_total_norm(tensors))


def test_processes_and_stages_learn_the_same(prepared: Path, tmp_path: Path) -> None:
    watched = {"ema_decay": 0.9, "validate_every": 4, "panel_every": 11}
    plans: dict[str, Any] = {
        f"stage{stage}": {
            "training": UNEVEN | watched | {"deepspeed": {"zero_optimization": {"stage": stage}}},
            **({} if stage == 2 else {"stop": 5}),
        }
        for stage in range(4)
    }
    cut = {"gradient_accumulation_steps": 2}
    plans["accumulated"] = {"training": UNEVEN | watched | {"deepspeed": cut}}
    plans["codebook"] = {
        "training": {"deepspeed": {"zero_optimization": {"stage": 3}}},
        "network": VQ,
    }
    launch(tmp_path / "two", prepared, 2, plans)
    alone = train(recipe(UNEVEN | watched), prepared, tmp_path / "one")
    module = cast("nn.Module", build_autoencoder(AutoencoderPlan.of(recipe(UNEVEN))))
    initial = {name: value.clone() for name, value in module.state_dict().items()}
    raw = train(recipe(UNEVEN), prepared, tmp_path / "raw")
    assert furthest(weights(alone), weights(raw)) > 2e-4, "the average is what is exported"
    rows = lines(alone)
    for name in ("stage0", "stage1", "stage2", "stage3", "accumulated"):
        found = tmp_path / "two" / name
        # One process sums a step's cases in another order: 1e-6 of a gradient. AdamW divides a
        # gradient by its own size, so weights whose gradients are rounding alone go either way by
        # the whole rate, and the runs part slowly. The gradients themselves are compared below.
        apart = norm(difference(weights(found), weights(alone)))
        assert apart < 0.01 * norm(difference(weights(alone), initial)), name
        for mine, theirs in zip(lines(found), rows, strict=True):
            same = [k for k in theirs if k.startswith(("loss/", "validation/")) or k == "lr"]
            bound = 1e-6 if theirs["step"] == 1 else 0.02
            expected = {k: theirs[k] for k in same}
            assert {k: mine[k] for k in same} == pytest.approx(expected, rel=bound)
        # How weights are sharded changes nothing.
        if name.startswith("stage"):
            assert furthest(weights(found), weights(tmp_path / "two" / "stage0")) < 1e-6
        assert sorted(path.name for path in (found / "panels").iterdir()) == [
            "step-00000011-0.png",
            "step-00000011-1.png",
        ]
        assert not (found / "checkpoints").exists()
    own = train(recipe(autoencoder=VQ), prepared, tmp_path / "vq")
    assert furthest(weights(tmp_path / "two" / "codebook"), weights(own)) < 2e-5


@pytest.mark.parametrize("step", [0, 3, 10])
def test_gradients_of_any_cut_are_those_of_the_whole_step(prepared: Path, step: int) -> None:
    wanted = recipe(UNEVEN)
    training = AutoencoderTraining.model_validate(UNEVEN)
    settings = Adversarial.model_validate(ADVERSARY)
    order = PatchOrder(training, volumes_of(prepared), 2, seed=0)
    builder = PatchBatchBuilder(volumes_of(prepared), 0, 2, 2)

    def gradients(world: int, accumulation: int) -> list[Tensor]:
        adversary = Adversary(settings, spatial_dims=3, in_channels=1, lr=1.0, seed=0, device=CPU)
        networks = autocast(training, CPU)
        task = AutoencoderTask(
            build_autoencoder(AutoencoderPlan.of(wanted)), training, networks, adversary
        )
        second = AdversaryTraining(
            adversary, Ranks(0, 0, 1), rate=lambda step: 1.0, clip_norm=0.0, autocast=networks
        )
        parts = world * accumulation
        for rank in range(world):
            cut = order.micro_batches(step, rank=rank, world=world, accumulation=accumulation)
            for keys in cut:
                batch = builder.make(keys)
                losses = task(batch)
                (losses["total"] / parts).backward()
                second.backward(batch, losses, micro_batches=parts)
        both = (*task.parameters(), *adversary.network.parameters())
        return [p.grad for p in both if p.grad is not None]

    whole = gradients(1, 1)
    layers = len(
        list(cast("nn.Module", build_autoencoder(AutoencoderPlan.of(wanted))).parameters())
    )
    assert (len(whole) > layers) == (step >= 2), "the discriminator comes in at its step"
    for world, accumulation in ((2, 1), (1, 2), (2, 2), (4, 1)):
        found = gradients(world, accumulation)
        size = torch.nn.utils.get_total_norm(whole)
        pairs = zip(found, whole, strict=True)
        assert torch.nn.utils.get_total_norm([a - b for a, b in pairs]) < 1e-5 * size


def test_a_resumed_average_and_adversary_are_the_same_to_the_bit(
    prepared: Path, tmp_path: Path
) -> None:
    wanted = recipe(UNEVEN | {"ema_decay": 0.9})
    whole = train_autoencoder(wanted, prepared, tmp_path / "whole")
    assert train_autoencoder(wanted, prepared, tmp_path / "parts", stop_after=5) is None
    step = tmp_path / "parts" / "checkpoints" / "step-00000005"
    assert {"ema.pt", "second.pt", "complete.json"} <= {path.name for path in step.iterdir()}
    parts = train_autoencoder(wanted, prepared, tmp_path / "parts")
    assert whole is not None
    assert parts is not None
    assert furthest(weights(whole), weights(parts)) == 0
    assert (whole / "autoencoder.json").read_bytes() == (parts / "autoencoder.json").read_bytes()


def test_tensorboard_has_losses_validation_and_reconstructions(
    prepared: Path, tmp_path: Path
) -> None:
    wanted = recipe(
        {"steps": 4, "validate_every": 2, "panel_every": 4}, observers=[{"name": "tensorboard"}]
    )
    out = train_autoencoder(wanted, prepared, tmp_path / "autoencoder")
    assert out is not None
    events = EventAccumulator(str(tmp_path / "tensorboard" / "autoencoder"))
    events.Reload()
    tags = events.Tags()
    assert {"loss/total", "loss/l1", "loss/kl", "lr", "validation/psnr_db"} <= set(tags["scalars"])
    assert tags["images"] == ["reconstruction/0", "reconstruction/1"]
    # The last validation is of the exported weights, through the mean: what export measures.
    measured = json.loads((out / "autoencoder.json").read_text())["reconstruction"]
    assert lines(out)[-1]["validation/psnr_db"] == pytest.approx(measured["psnr_db"], rel=1e-5)
    assert lines(out)[-1]["validation/l1"] == pytest.approx(measured["mae"], rel=1e-5)


@pytest.mark.parametrize(("world", "accumulation"), [(1, 1), (2, 1), (2, 2), (4, 1), (3, 2)])
def test_micro_batches_are_the_step_and_weigh_one_together(
    prepared: Path, world: int, accumulation: int
) -> None:
    training = AutoencoderTraining.model_validate(UNEVEN)
    order = PatchOrder(training, volumes_of(prepared), 2, seed=3)
    plain = DataOrder(volumes_of(prepared).ids_of("train"), seed=3, batch_size=3)
    for step in (0, 7, 10):
        parts = [
            part
            for micro in zip(
                *(
                    order.micro_batches(step, rank=r, world=world, accumulation=accumulation)
                    for r in range(world)
                ),
                strict=True,
            )
            for part in micro
        ]
        assert len(parts) == world * accumulation
        assert all(part for part in parts), "every process computes every time"
        shares: dict[tuple[str, int], float] = {}
        for part in parts:
            for sample in part:
                assert isinstance(sample, PatchKey)
                assert sample.size == ((16, 16, 8) if step >= 9 else (8, 8, 8))
                key = (sample.case_id, sample.epoch)
                share = sample.weight / len(part) / len(parts)
                shares[key] = shares.get(key, 0.0) + share
        count = 1 if step >= 9 else 3
        expected = [(sample.case_id, sample.epoch) for sample in plain.step(step)[:count]]
        assert {k for k, v in shares.items() if v} == set(expected)
        assert [shares[key] for key in expected] == pytest.approx([1 / count] * count)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"train_batch_size": 2}, "is not said here, but in autoencoder_training.batch_size"),
        ({"bf16": {"enabled": True}}, "is not said here, but in autoencoder_training.precision"),
        ({"zero_optimization": {"stage": 4}}, "zero_optimization.stage is 4"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps is 0"),
        ({"optimizer": {}}, "optimizer is not said here"),
    ],
)
def test_a_block_that_does_not_work_is_refused(
    prepared: Path, tmp_path: Path, block: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as caught:
        train_autoencoder(recipe({"deepspeed": block}), prepared, tmp_path)
    assert "autoencoder_training.deepspeed: " in str(caught.value)
    assert told in str(caught.value)


def test_any_number_of_processes_shares_a_batch() -> None:
    training = AutoencoderTraining(batch_size=2)
    assert engine_block(training, 8)["train_micro_batch_size_per_gpu"] == 1
    assert engine_block(training, 1)["train_batch_size"] == 2
    assert engine_block(training, 1)["gradient_clipping"] == 1.0
    small = AutoencoderTraining(batch_size=7, deepspeed={"train_micro_batch_size_per_gpu": 2})
    assert engine_block(small, 2)["gradient_accumulation_steps"] == 2


def test_a_checkpoint_of_the_former_loop_is_told_and_training_starts_anew(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = CheckpointStore(tmp_path / "ae" / "checkpoints", keep=2, ranks=Ranks(0, 0, 1))
    begun = store.begin(3)
    (begun / "state.pt").write_bytes(b"")
    store.finish(begun, 3, {"key": "of the former loop"}, {})
    seen: list[int] = []
    train(
        recipe({"steps": 2}), prepared, tmp_path / "ae", on_step=lambda step, _: seen.append(step)
    )
    assert seen == [1, 2]
    assert "starting anew" in capsys.readouterr().out


def test_a_codebook_is_trained_by_its_own_losses(prepared: Path, tmp_path: Path) -> None:
    out = train(recipe({"steps": 3}, autoencoder=VQ), prepared, tmp_path)
    rows = lines(out)
    assert {k for k in rows[0] if k.startswith("loss/")} == {
        *("loss/total", "loss/l1", "loss/codebook", "loss/commitment")
    }
    for row in rows:
        parts = row["loss/l1"] + row["loss/codebook"] + row["loss/commitment"]
        assert row["loss/total"] == pytest.approx(parts, rel=1e-5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained = Codebook(3, 1, 2)
    assert not torch.equal(weights(out)["codes"], untrained.codes.detach())


def test_an_own_loss_may_not_take_the_engines_name() -> None:
    image = torch.zeros(1, 1, 2, 2, 2)
    with pytest.raises(UserError, match="training_losses names one l1"):
        autoencoder_losses(AutoencoderTraining(), image, image, image, None, {"l1": image.mean()})


def test_latents_without_sigma_are_encoded_measured_and_drawn_as_means(
    prepared: Path, tmp_path: Path
) -> None:
    wanted = recipe({"steps": 1}, autoencoder=VQ)
    out = train(wanted, prepared, tmp_path / "ae")
    report = json.loads((out / "autoencoder.json").read_text())["reconstruction"]
    assert report["psnr_db"] is not None
    encode(wanted, prepared, tmp_path / "no reports", tmp_path, out, device="cpu")
    cache = LatentCache.open(tmp_path / "latents", wanted.latent)
    assert not cache.has_sigma
    with torch.no_grad():
        mean, sigma = load_autoencoder(AutoencoderPlan.of(wanted), out).model.encode(
            volumes_of(prepared).read("c2")[None]
        )
    assert sigma is None
    assert torch.equal(cache.mean("c2"), mean[0])
    with pytest.raises(ValueError, match="holds means alone"):
        cache.read("c2")
    found = cache.statistics
    stored = torch.stack([cache.mean(case) for case in volumes_of(prepared).ids_of("train")])
    assert found.noise_share == 0
    assert found.std == pytest.approx(float(stored.double().std(correction=0)), rel=1e-9)
    assert found.scale == pytest.approx(found.scale_of_means, rel=1e-12)
    for draw in ("resample", "fixed", "mean"):
        latent = wanted.latent.model_copy(update={"draw": draw})
        drawing = wanted.model_copy(update={"latent": latent})
        cases = {case.id: case for case in volumes_of(prepared).manifest}
        builder = LatentBatchBuilder(BatchSettings.of(drawing), cases, cache, None, scale=2.0)
        batch = builder.make(DataOrder(["c2"], seed=0, batch_size=1).step(5))
        assert torch.equal(batch.latents[0], 2.0 * mean[0])


class TestCodebook(AutoencoderContract):
    """The contract holds for an autoencoder whose latent is no distribution."""

    plugin = "codebook"
    latent_size = (4, 2, 3)
