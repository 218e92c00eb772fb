"""Training an autoencoder: it learns, resumes bit for bit, refuses what cannot work."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_autoencoder import CPU, KL, make_prepared, recipe, train_autoencoder, volumes_of
from torch import Tensor, nn

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.autoencoder.report import evaluate_autoencoder
from voxella.cache.latents import LatentCache
from voxella.cache.stage import encode
from voxella.data.volumes import PreparedVolumes
from voxella.errors import UserError
from voxella.imaging.volume import write_volume
from voxella.plugins import registry
from voxella.plugins.contracts import Autoencoder
from voxella.stopping import Interrupted


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"))


def test_training_reduces_the_loss_and_exports(prepared: Path, tmp_path: Path) -> None:
    steps: dict[int, Mapping[str, float]] = {}
    wanted = recipe({"steps": 40, "gradient_weight": 0.1, "kl_weight": 1e-5})
    out = train_autoencoder(
        wanted, prepared, tmp_path / "ae", on_step=lambda n, losses: steps.update({n: losses})
    )
    assert list(steps) == list(range(1, 41))
    first, last = (np.mean([steps[n]["l1"] for n in span]) for span in (range(1, 6), range(36, 41)))
    assert last < 0.5 * first
    assert set(steps[1]) == {"loss", "l1", "kl", "gradient"}

    facts = json.loads((out / "autoencoder.json").read_text())
    assert facts["steps"] == 40
    assert [row["step"] for row in facts["losses"]] == list(range(1, 41))
    assert facts["reconstruction"]["split"] == "val"
    assert list(facts["reconstruction"]["by_case"]) == ["c4"]
    loaded = load_autoencoder(AutoencoderPlan.of(wanted), out)
    assert loaded.fingerprint == facts["fingerprint"]
    image = volumes_of(prepared).read("c4")[None]
    with torch.no_grad():
        error = loaded.model.decode(loaded.model.encode(image)[0]).clamp(0, 1) - image
    psnr = -10 * math.log10(float(error.square().mean()))
    assert facts["reconstruction"]["psnr_db"] == pytest.approx(psnr, abs=1e-3)
    assert not cast("nn.Module", loaded.model).training
    # Three rows of three planes, enlarged eight times to 128 pixels an edge, each row captioned.
    picture = np.asarray(Image.open(out / "reconstruction.png"))
    assert picture.shape == (3 * (12 + 128) + 2 * 2, 3 * 128 + 2 * 2)
    assert not (out / "checkpoints").exists()


EVERYTHING = {
    "patch_size": [8, 8, 8],
    "precision": "bf16",
    "gradient_weight": 0.1,
    "spectral_weight": 0.1,
    "adversarial": {"layers": 1, "channels": 4, "from_step": 2},
}


@pytest.mark.parametrize("training", [{}, {"patch_size": [8, 8, 4]}, EVERYTHING])
def test_a_killed_run_resumes_bit_for_bit(
    prepared: Path, tmp_path: Path, training: dict[str, Any]
) -> None:
    wanted = recipe(training)

    def kill(step: int, losses: Mapping[str, float]) -> None:
        if step == 5:
            raise KeyboardInterrupt

    whole = train_autoencoder(wanted, prepared, tmp_path / "whole", checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(wanted, prepared, tmp_path / "killed", checkpoint_every=2, on_step=kill)
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    seen: list[int] = []
    killed = train_autoencoder(
        wanted,
        prepared,
        tmp_path / "killed",
        checkpoint_every=2,
        on_step=lambda step, losses: seen.append(step),
    )
    assert seen == [5, 6, 7, 8]
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (whole / "autoencoder.json").read_text() == (killed / "autoencoder.json").read_text()


def test_training_on_patches_ends_on_whole_volumes(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module).__name__ == "Encoder" and module.training:
            seen.append(tuple(inputs[0].shape))

    watching = nn.modules.module.register_module_forward_pre_hook(look)
    try:
        wanted = recipe({"steps": 11, "batch_size": 4, "patch_size": [8, 8, 4]})
        train_autoencoder(wanted, prepared, tmp_path / "small")
        # A tenth of 11 steps, rounded up; a volume has as many voxels as eight patches.
        assert seen == [(4, 1, 8, 8, 4)] * 9 + [(1, 1, 16, 16, 8)] * 2
        seen.clear()
        monkeypatch.setattr("voxella.autoencoder.patches._WHOLE_VOXELS", 1000)
        train_autoencoder(wanted, prepared, tmp_path / "large")
        assert seen == [(4, 1, 8, 8, 4)] * 11
    finally:
        watching.remove()


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_continues(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []

    def kill(step: int, losses: Mapping[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    whole = train_autoencoder(recipe({"steps": 3}), prepared, tmp_path / "whole")
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(recipe({"steps": 3}), prepared, out, checkpoint_every=1, on_step=kill)
    state = out / "checkpoints" / "step-00000002" / "mp_rank_00_model_states.pt"
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(data)
    train_autoencoder(
        recipe({"steps": 3}), prepared, out, on_step=lambda step, losses: seen.append(step)
    )
    assert seen == [2, 3]
    assert (
        "step-00000002 is damaged: mp_rank_00_model_states.pt is not what was written"
        in capsys.readouterr().out
    )
    assert same_weights(whole, out)


def test_a_signal_saves_the_step(prepared: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def stop(step: int, losses: Mapping[str, float]) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    wanted = recipe({"steps": 5})
    whole = train_autoencoder(wanted, prepared, tmp_path / "whole")
    out = tmp_path / "stopped"
    with pytest.raises(Interrupted) as caught:
        train_autoencoder(wanted, prepared, out, on_step=stop)
    assert caught.value.number == signal.SIGTERM
    assert caught.value.kept == str(out / "checkpoints" / "step-00000002")
    train_autoencoder(wanted, prepared, out, on_step=lambda step, losses: seen.append(step))
    assert seen == [3, 4, 5]
    assert same_weights(whole, out)


def test_a_checkpoint_of_another_recipe_is_not_taken_up(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill(step: int, losses: Mapping[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(recipe(), prepared, tmp_path, checkpoint_every=1, on_step=kill)
    assert (tmp_path / "checkpoints" / "step-00000002" / "complete.json").is_file()
    seen: list[int] = []
    train_autoencoder(
        recipe({"lr": 1e-4, "steps": 3}),
        prepared,
        tmp_path,
        on_step=lambda step, losses: seen.append(step),
    )
    assert seen == [1, 2, 3]
    assert "starting anew" in capsys.readouterr().out


def test_what_is_up_to_date_is_left_alone(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = recipe({"steps": 1})
    train_autoencoder(wanted, prepared, tmp_path)
    train_autoencoder(
        wanted, prepared, tmp_path, on_step=lambda *_: pytest.fail("trained a second time")
    )
    assert "up to date" in capsys.readouterr().out
    again: list[int] = []
    train_autoencoder(
        recipe({"steps": 1}, seed=1), prepared, tmp_path, on_step=lambda n, _: again.append(n)
    )
    assert again == [1]


def test_it_is_not_taken_from_under_a_model_that_was_trained_on_it(
    prepared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "autoencoder"
    train_autoencoder(recipe({"steps": 1}), prepared, out)
    before = (out / "model.safetensors").read_bytes()
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "stage.json").write_text("{}")
    with pytest.raises(UserError, match=r"autoencoder_training\.steps: 1 -> 2") as caught:
        train_autoencoder(recipe({"steps": 2}), prepared, out)
    assert "--set autoencoder_training.steps=1" in str(caught.value)
    assert f"--out {tmp_path}-2" in str(caught.value)
    assert (out / "model.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_names_step_and_cases(prepared: Path, tmp_path: Path) -> None:
    wanted = recipe({"steps": 40, "lr": 1e30, "batch_size": 1})
    with pytest.raises(UserError) as caught:
        train_autoencoder(wanted, prepared, tmp_path)
    assert re.search(r"the loss of step \d+ is not finite, at cases c", str(caught.value))
    assert "--set autoencoder_training.lr=" in str(caught.value)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"patch_size": [8, 8, 5]}, "patch_size [8, 8, 5]: not divisible by the autoencoder's"),
        ({"patch_size": [32, 8, 4]}, "larger than the volumes, [16, 16, 8]"),
        ({"patch_size": [8, 8]}, "the volumes have 3 axes"),
        ({"adversarial": {"layers": 2}}, "edges of at least 3 * 2^layers = 12 voxels"),
    ],
)
def test_patches_that_do_not_fit_are_refused(
    prepared: Path, tmp_path: Path, training: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as caught:
        train_autoencoder(recipe(training), prepared, tmp_path)
    assert told in str(caught.value)


def test_a_recipe_without_the_block_or_a_set_without_cases_is_refused(
    prepared: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="trains no autoencoder"):
        train_autoencoder(recipe(autoencoder_training=None), prepared, tmp_path)
    with pytest.raises(UserError, match="no training case"):
        train_autoencoder(recipe(), make_prepared(tmp_path / "p", splits="ve"), tmp_path)
    with pytest.raises(UserError, match="not a finished prepared data set"):
        train_autoencoder(recipe(), tmp_path / "nothing", tmp_path)


def test_volumes_refuse_voxels_that_are_not_finite(tmp_path: Path) -> None:
    folder = make_prepared(tmp_path, splits="t")
    image = np.zeros((16, 16, 8), dtype=np.float32)
    image[3, 3, 3] = np.nan
    write_volume(folder / "images/c0_t2w.nii.gz", image, np.eye(4))
    with pytest.raises(
        UserError, match=r"case c0: c0_t2w\.nii\.gz holds voxels that are not finite"
    ):
        volumes_of(folder).read("c0")


def test_volumes_refuse_cases_without_a_sequence(tmp_path: Path) -> None:
    make_prepared(tmp_path, splits="tt")
    with pytest.raises(UserError) as caught:
        PreparedVolumes(tmp_path, sequences=["t2w", "adc"], spatial_dims=3)
    assert "case c0 has no adc image" in str(caught.value)
    assert "case c1 has no adc image" in str(caught.value)


def test_measured_numbers_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    volumes = volumes_of(make_prepared(tmp_path, splits="tvvvvv"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Autoencoder = registry.build(
            "autoencoders", recipe().autoencoder, spatial_dims=3, in_channels=1, latent_channels=2
        )
    one = evaluate_autoencoder(model, volumes, device=CPU, batch_size=1)
    three = evaluate_autoencoder(model, volumes, device=CPU, batch_size=3)
    assert one.cases == three.cases == ("c1", "c2", "c3", "c4", "c5")
    # SSIM near zero is a difference of large sums, rounded by another order of summation.
    for single, batched in zip(one.measures, three.measures, strict=True):
        assert single.psnr == pytest.approx(batched.psnr, rel=1e-5)
        assert single.ssim == pytest.approx(batched.ssim, abs=1e-5)
        assert single.mae == pytest.approx(batched.mae, rel=1e-5)
        assert single.band_sums == pytest.approx(batched.band_sums, rel=1e-4)
        assert single.band_voxels == batched.band_voxels
    few = evaluate_autoencoder(model, volumes, device=CPU, count=3)
    assert few.cases == ("c1", "c3", "c5")
    assert few.psnr == np.mean([one.measures[k].psnr for k in (0, 2, 4)])


def test_the_test_split_is_never_looked_at(tmp_path: Path) -> None:
    class Untouched(nn.Module):
        factor, latent_channels = 2, 2

        def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
            raise AssertionError

        def decode(self, latents: Tensor) -> Tensor:
            raise AssertionError

    volumes = volumes_of(make_prepared(tmp_path, splits="ee"))
    with pytest.raises(UserError, match="neither val nor train cases"):
        evaluate_autoencoder(Untouched(), volumes, device=CPU)


def test_a_network_without_weights_is_refused(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not trained") as caught:
        load_autoencoder(AutoencoderPlan.of(recipe()), tmp_path)
    assert "next:     voxella train-autoencoder" in str(caught.value)
    with pytest.raises(UserError, match="latents would be those of a random network"):
        load_autoencoder(AutoencoderPlan.of(recipe(autoencoder_training=None)))
    out = train_autoencoder(recipe({"steps": 1}), prepared, tmp_path)
    with pytest.raises(UserError, match="do not fit the recipe's autoencoder"):
        load_autoencoder(AutoencoderPlan.of(recipe(autoencoder=KL | {"channels": [8, 16]})), out)


def test_a_trained_autoencoder_encodes(prepared: Path, tmp_path: Path) -> None:
    wanted = recipe({"steps": 1})
    out = train_autoencoder(wanted, prepared, tmp_path / "ae")
    encode(wanted, prepared, tmp_path / "no reports are read", tmp_path, out, device="cpu")
    cache = LatentCache.open(tmp_path / "latents", wanted.latent)
    assert cache.statistics.cases == 4
    image = volumes_of(prepared).read("c2")[None]
    with torch.no_grad():
        mean, log_sigma = load_autoencoder(AutoencoderPlan.of(wanted), out).model.encode(image)
    stored = cache.read("c2")
    assert log_sigma is not None
    assert torch.equal(stored[0], mean[0])
    assert torch.equal(stored[1], log_sigma[0])


def test_weights_named_by_the_recipe_serve_like_trained_ones(
    prepared: Path, tmp_path: Path
) -> None:
    out = train_autoencoder(recipe({"steps": 1}), prepared, tmp_path)
    named = recipe(
        autoencoder=KL | {"weights": str(out / "model.safetensors")}, autoencoder_training=None
    )
    assert (
        load_autoencoder(AutoencoderPlan.of(named)).fingerprint
        == load_autoencoder(AutoencoderPlan.of(recipe()), out).fingerprint
    )


def same_weights(one: Path, two: Path) -> bool:
    a, b = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "network",
    [KL, {"name": "maisi", "channels": [4, 8], "norm_groups": 4, "res_blocks": 1}],
    ids=["kl", "maisi"],
)
def test_fine_tuning_starts_from_given_weights(
    network: dict[str, Any], prepared: Path, tmp_path: Path
) -> None:
    scratch = recipe({"steps": 2}, autoencoder=network)
    given = train_autoencoder(scratch, prepared, tmp_path / "given") / "model.safetensors"
    weights = load_file(given)
    # As it is released: a file of torch.save.
    torch.save(weights, tmp_path / "given.pt")
    tuned = recipe({"steps": 1, "lr": 1e-9}, autoencoder=network | {"weights": f"{given}"})
    one = train_autoencoder(tuned, prepared, tmp_path / "one")
    tuned = recipe(
        {"steps": 1, "lr": 1e-9},
        autoencoder=network | {"weights": str(tmp_path / "given.pt")},
    )
    assert same_weights(one, train_autoencoder(tuned, prepared, tmp_path / "two"))
    moved = load_file(one / "model.safetensors")
    assert not same_weights(one, given.parent)
    # A step of 1e-9 moves no weight further than AdamW's update, which is about the rate.
    assert all((moved[name] - weights[name]).abs().max() < 1e-7 for name in weights)
    # What is encoded with afterwards are the tuned weights, not the given ones.
    loaded = load_autoencoder(AutoencoderPlan.of(tuned), one)
    facts = json.loads((one / "autoencoder.json").read_text())
    assert loaded.fingerprint == facts["fingerprint"]


def test_fine_tuning_its_own_result_is_refused(prepared: Path, tmp_path: Path) -> None:
    given = train_autoencoder(recipe({"steps": 1}), prepared, tmp_path) / "model.safetensors"
    tuned = recipe({"steps": 1}, autoencoder=KL | {"weights": str(given)})
    with pytest.raises(UserError, match="names the file that train-autoencoder writes"):
        train_autoencoder(tuned, prepared, tmp_path)
    assert given.is_file()


def _append(told: list[float], step: int, losses: Mapping[str, float]) -> None:
    told.append(losses["l1"])


def test_bfloat16_computes_the_same_training_roughly(prepared: Path, tmp_path: Path) -> None:
    losses: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        told = losses.setdefault(precision, [])
        train_autoencoder(
            recipe({"steps": 6, "precision": precision}),
            prepared,
            tmp_path / precision,
            on_step=partial(_append, told),
        )
    # bfloat16 keeps 8 bits: near float32, and not equal to it.
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    weights = load_file(tmp_path / "bf16" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_the_discriminator_comes_in_at_its_step(prepared: Path, tmp_path: Path) -> None:
    steps: list[Mapping[str, float]] = []
    adversarial = {"layers": 1, "channels": 4, "from_step": 2, "weight": 0.5}
    train_autoencoder(
        recipe({"steps": 4, "patch_size": [8, 8, 8], "adversarial": adversarial}),
        prepared,
        tmp_path,
        on_step=lambda step, losses: steps.append(losses),
    )
    assert [("adversarial" in losses, "discriminator" in losses) for losses in steps] == [
        *[(False, False)] * 2,
        *[(True, True)] * 2,
    ]
    for losses in steps:
        expected = losses["l1"] + 1e-6 * losses["kl"] + 0.5 * losses.get("adversarial", 0.0)
        assert losses["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_with_everything_and_resumes(prepared: Path, tmp_path: Path) -> None:
    def kill(step: int, losses: Mapping[str, float]) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(recipe(EVERYTHING), prepared, tmp_path, checkpoint_every=2, on_step=kill)
    seen: list[int] = []
    train_autoencoder(
        recipe(EVERYTHING),
        prepared,
        tmp_path,
        on_step=lambda step, losses: seen.append(step),
    )
    assert seen == [5, 6, 7, 8]
    weights = load_file(tmp_path / "model.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
