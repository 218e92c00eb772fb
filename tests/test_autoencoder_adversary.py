"""The adversary of latent diffusion: hinge, batch norm, adaptive weight, against formulas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_autoencoder import CPU, make_prepared
from tiny_autoencoder import recipe as recipe_of_volumes
from tiny_autoencoder import train_autoencoder as train
from tiny_first_stage import ADVERSARY, EDGE, make_tiles, recipe_of_tiles
from torch import Tensor
from torch.nn import functional

from voxella.autoencoder.adaptive import adaptive_weight, last_layer
from voxella.autoencoder.adversarial_losses import ADVERSARIAL_LOSSES
from voxella.autoencoder.adversary import Adversary
from voxella.autoencoder.patches import PatchBatch
from voxella.autoencoder.settings import deciding_settings
from voxella.autoencoder.task import AutoencoderTask, autocast
from voxella.autoencoder.train import train_autoencoder
from voxella.errors import UserError
from voxella.recipe.training import Adversarial, AutoencoderTraining
from voxella_backbones.autoencoder_plugin import build_kl2d, build_vq
from voxella_backbones.ldm.kl2d import KL2d
from voxella_backbones.ldm.vq import VQ

DRIVER = Path(__file__).parent / "autoencoder_driver.py"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def images(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, EDGE, EDGE, generator=torch.Generator().manual_seed(seed))


def adversary(**changes: Any) -> Adversary:
    settings = Adversarial.model_validate(ADVERSARY | changes)
    return Adversary(
        settings, spatial_dims=2, in_channels=3, lr=1e-3, betas=(0.5, 0.9), seed=0, device=CPU
    )


def recorded(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def vq() -> VQ:
    torch.manual_seed(0)
    built = build_vq(
        spatial_dims=2,
        in_channels=3,
        latent_channels=3,
        channels=[8, 8],
        norm_groups=4,
        codes=16,
    )
    assert isinstance(built, VQ)
    return built.train()


def published(state: dict[str, Tensor], x: Tensor, layers: int) -> Tensor:
    """The discriminator of taming-transformers, layer by layer, on images in [0, 1]."""

    def convolved(name: str, x: Tensor, stride: int) -> Tensor:
        weight, bias = state[f"{name}.conv.weight"], state.get(f"{name}.conv.bias")
        return functional.conv2d(x, weight, bias, stride=stride, padding=1)

    x = functional.leaky_relu(convolved("initial_conv", 2 * x - 1, 2), 0.2)
    for level in range(layers):
        assert f"{level}.conv.bias" not in state, "no bias in front of a batch norm"
        x = convolved(str(level), x, 1 if level == layers - 1 else 2)
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        variance = x.var(dim=(0, 2, 3), keepdim=True, correction=0)
        scale, shift = (state[f"{level}.adn.N.{n}"][:, None, None] for n in ("weight", "bias"))
        x = functional.leaky_relu((x - mean) / (variance + 1e-5).sqrt() * scale + shift, 0.2)
    return convolved("final_conv", x, 1)


def test_hinge_losses_have_their_closed_forms() -> None:
    losses, logits = ADVERSARIAL_LOSSES["hinge"], torch.tensor([[-3.0, 0.5], [1.0, 2.0]])
    # max(0, 1 - x) is 4, 0.5, 0, 0; max(0, 1 + x) is 0, 1.5, 2, 3; the mean is 0.125.
    assert float(losses.real(logits)) == pytest.approx(4.5 / 4)
    assert float(losses.fake(logits)) == pytest.approx(6.5 / 4)
    assert float(losses.generator(logits)) == pytest.approx(-0.125)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_discriminator_is_the_published_one(layers: int) -> None:
    subject = adversary(layers=layers)
    state = {name: tensor.clone() for name, tensor in subject.network.state_dict().items()}
    real, fake = (
        torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(s)) for s in (0, 1)
    )
    at_real, at_fake = (published(state, x, layers) for x in (real, fake))
    assert at_real.std() > 1e-3
    own = 0.5 * ((1 - at_real).clamp(min=0).mean() + (1 + at_fake).clamp(min=0).mean())
    torch.testing.assert_close(subject.discriminator_loss(real, fake), own, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(subject.generator_loss(fake), -at_fake.mean(), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("layers", "count", "tensors"), [(3, 2_765_633, 22), (2, 663_361, 16)])
def test_it_is_as_large_as_published_and_starts_as_published(
    layers: int, count: int, tensors: int
) -> None:
    network = adversary(layers=layers, channels=64).network
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    state = network.state_dict()
    assert len(state) == tensors
    # N(0, 0.02) of convolutions, N(1, 0.02) of the norms' scales, no shift.
    assert float(state["0.conv.weight"].std()) == pytest.approx(0.02, rel=0.02)
    assert abs(float(state["0.conv.weight"].mean())) < 2e-4
    assert float(state["1.adn.N.weight"].mean()) == pytest.approx(1.0, abs=0.01)
    assert float(state["1.adn.N.weight"].std()) == pytest.approx(0.02, rel=0.2)
    assert not state["1.adn.N.bias"].any()


def by_hand(module: VQ | KL2d, others: Tensor, adversarial: Tensor) -> float:
    """The adaptive weight by a whole pass back to the last convolution's own weight."""
    norms = [
        float(torch.autograd.grad(loss, module.last_layer, retain_graph=True)[0].norm())
        for loss in (others, adversarial)
    ]
    return norms[0] / (norms[1] + 1e-4)


def test_the_adaptive_weight_is_autograds_at_the_last_layer() -> None:
    torch.manual_seed(0)
    kl = build_kl2d(
        spatial_dims=2, in_channels=3, latent_channels=3, channels=[8, 8], norm_groups=4
    )
    assert isinstance(kl, KL2d)
    judge, x = adversary(), images()
    for module in (vq(), kl.train()):
        with last_layer(module) as gradient_at:
            decoded = module.decode(noise(2, 3, EDGE // 2, EDGE // 2))
        others, adversarial = (decoded - x).abs().mean(), judge.generator_loss(decoded)
        found = adaptive_weight(others, adversarial, decoded, gradient_at)
        assert not found.requires_grad
        expected = by_hand(module, others, adversarial)
        assert 0.01 < expected < 100
        assert float(found) == pytest.approx(expected, rel=1e-4)
        assert not module.decoder.conv_out._forward_pre_hooks, "nothing is watched any more"


def test_the_adaptive_weight_is_bounded_as_released() -> None:
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    total = x.sum()  # a gradient of length 2

    def found(others: float, adversarial: float) -> float:
        return float(adaptive_weight(others * total, adversarial * total, x, lambda g: g))

    assert found(3.0, 0.5) == pytest.approx(6 / (1 + 1e-4), rel=1e-6)
    assert found(0.0, 0.5) == 0.0
    assert found(0.1, 0.0) == pytest.approx(0.2 / 1e-4, rel=1e-4)
    assert found(3.0, 0.0) == 1e4


def test_the_task_trains_on_the_sum_and_tells_the_weight() -> None:
    module, judge, training = vq(), adversary(), AutoencoderTraining()
    task = AutoencoderTask(module, training, autocast(training, CPU), judge)
    batch = PatchBatch(("a", "b"), images(), noise(2, 3, 8, 8), step=1, weight=1.0)
    losses = task(batch)
    losses["total"].backward()
    found = [p.grad.clone() for p in module.parameters() if p.grad is not None]

    module.zero_grad()
    latent, _ = module.encode(batch.images)
    decoded = module.decode(latent)
    others = (decoded - batch.images).abs().mean()
    others = others + module.training_losses(batch.images, latent, decoded)["codebook"]
    adversarial = judge.generator_loss(decoded)
    weight = by_hand(module, others, adversarial)
    assert float(losses["adversarial_weight"]) == pytest.approx(weight, rel=1e-4)
    total = others + 0.75 * weight * adversarial
    assert float(losses["loss"]) == pytest.approx(float(total.detach()), rel=1e-5)
    torch.autograd.backward(total)
    expected = [p.grad for p in module.parameters() if p.grad is not None]
    apart = torch.nn.utils.get_total_norm([a - b for a, b in zip(found, expected, strict=True)])
    assert apart < 1e-4 * torch.nn.utils.get_total_norm(expected)
    before = task(PatchBatch(batch.case_ids, batch.images, batch.noise, step=0, weight=1.0))
    assert not {"adversarial", "adversarial_weight"} & before.keys(), "its step has not come"


def test_settings_of_before_have_the_hash_of_before() -> None:
    before = AutoencoderTraining(adversarial=Adversarial())
    told = deciding_settings(before)
    assert told["adversarial"] == {"weight": 0.1, "from_step": 0, "channels": 32, "layers": 3}
    assert not {"betas", "lr_schedule"} & told.keys()
    new = recipe_of_tiles().autoencoder_training
    assert new is not None
    told = deciding_settings(new)
    assert (told["betas"], told["lr_schedule"]) == ([0.5, 0.9], "constant")
    assert told["adversarial"] == ADVERSARY


def test_an_autoencoder_without_a_last_layer_is_refused(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path / "prepared")
    wanted = recipe_of_volumes({"adversarial": {"adaptive": True, "layers": 1}})
    with pytest.raises(UserError, match="the autoencoder kl does not tell the gradients") as told:
        train_autoencoder(wanted, prepared, tmp_path / "autoencoder")
    assert "adaptive=false" in str(told.value)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiles(tmp_path_factory.mktemp("tiles"))


def test_training_has_the_papers_optimizers_and_is_resumed_to_the_bit(
    tiles: Path, tmp_path: Path
) -> None:
    wanted = recipe_of_tiles({"ema_decay": 0.9})
    whole = train(wanted, tiles, tmp_path / "whole")
    assert train_autoencoder(wanted, tiles, tmp_path / "parts", stop_after=3) is None
    step = tmp_path / "parts" / "checkpoints" / "step-00000003"
    kept = torch.load(step / "second.pt", weights_only=True)
    (group,) = kept["optimizer"]["param_groups"]
    assert (tuple(group["betas"]), group["lr"], group["weight_decay"]) == ((0.5, 0.9), 2e-3, 0.0)
    assert "0.adn.N.running_mean" in kept["network"]
    parts = train_autoencoder(wanted, tiles, tmp_path / "parts")
    assert parts is not None
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    assert all(torch.equal(one[name], two[name]) for name in one)
    rows = recorded(whole)
    assert [row["lr"] for row in rows] == [2e-3] * 5
    assert ["loss/adversarial_weight" in row for row in rows] == [False, True, True, True, True]
    for row in rows[1:]:
        adversarial = 0.75 * row["loss/adversarial_weight"] * row["loss/adversarial"]
        parts_of = row["loss/l1"] + row["loss/codebook"] + adversarial
        assert row["loss/total"] == pytest.approx(parts_of, rel=1e-5)


def test_how_weights_are_sharded_changes_nothing(tiles: Path, tmp_path: Path) -> None:
    plans = {
        f"stage{stage}": {
            "tiles": True,
            "training": {"deepspeed": {"zero_optimization": {"stage": stage}}},
        }
        for stage in (0, 2, 3)
    }
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "prepared").symlink_to(tiles)
    (folder / "plans.json").write_text(json.dumps(plans))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [sys.executable, *launcher, str(DRIVER), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one = load_file(folder / "stage0" / "model.safetensors")
    # An attention does not depend on the bias of its keys: their gradient is rounding alone, which
    # Adam makes a step of.
    compared = [key for key in one if not key.endswith("to_k.bias")]
    assert len(compared) == len(one) - 2
    first = recorded(folder / "stage0")
    assert first[-1]["loss/adversarial_weight"] > 0
    for name in ("stage2", "stage3"):
        two = load_file(folder / name / "model.safetensors")
        assert max(float((one[key] - two[key]).abs().max()) for key in compared) < 1e-6, name
        for mine, theirs in zip(recorded(folder / name), first, strict=True):
            assert mine.keys() == theirs.keys()
            for key in ("loss/total", "loss/adversarial_weight", "loss/discriminator"):
                if key in theirs:  # the validation has lines of its own
                    assert mine[key] == pytest.approx(theirs[key], rel=1e-5), (name, key)
