"""Training an autoencoder: it learns, resumes bit for bit, refuses what cannot work."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from voxella.cache.latents import LatentCache
from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.imaging.volume import write_volume
from voxella.plugins import registry
from voxella.plugins.contracts import Autoencoder
from voxella.recipe.model import Recipe
from voxella.stages.autoencoder import train_autoencoder
from voxella.stages.autoencoder_loss import gradient_l1, kl_per_voxel
from voxella.stages.autoencoder_model import load_autoencoder
from voxella.stages.autoencoder_report import evaluate_autoencoder
from voxella.stages.encode import encode
from voxella.stages.record import StageRecord
from voxella.stages.volumes import PreparedVolumes

KL = {"name": "kl", "channels": [8, 8], "norm_groups": 4}
CPU = torch.device("cpu")


def recipe(training: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    block = {"steps": 8, "batch_size": 2, "lr": 3e-3, "log_every": 2} | (training or {})
    return Recipe.model_validate(
        {
            "name": "test",
            "autoencoder": KL,
            "autoencoder_training": block,
            "latent": {"channels": 2, "size": [8, 8, 4]},
            "conditioner": {"name": "none"},
            "backbone": {"name": "maisi_unet"},
            "train": {"steps": 1},
            "deepspeed": {},
        }
        | changes
    )


def make_prepared(folder: Path, *, splits: str = "ttttv") -> Path:
    """Balls on a dark ground: cases differ in radius. t, v, e: train, val, test."""
    names = {"t": "train", "v": "val", "e": "test"}
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (16, 16, 8)), indexing="ij"))
    centre = np.array([8, 8, 4]).reshape(3, 1, 1, 1)
    distance = np.sqrt((((grid - centre) * np.array([1, 1, 2]).reshape(3, 1, 1, 1)) ** 2).sum(0))
    cases = []
    for number, split in enumerate(splits):
        ball = 1 / (1 + np.exp(distance - 3 - number))
        name = f"images/c{number}_t2w.nii.gz"
        write_volume(folder / name, ball.astype(np.float32), np.eye(4))
        cases.append(
            Case.model_validate(
                {
                    "id": f"c{number}",
                    "patient": f"p{number}",
                    "images": {"t2w": name},
                    "split": names[split],
                    "extra": {"spacing_mm": [1.0, 1.0, 2.0]},
                }
            )
        )
    Manifest(folder, cases).write()
    StageRecord(folder, "prepare", {"test": splits}).complete()
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"))


def volumes_of(folder: Path) -> PreparedVolumes:
    return PreparedVolumes(folder, sequences=["t2w"], spatial_dims=3)


def test_kl_agrees_with_torch_distributions() -> None:
    mean, log_sigma = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    normal = torch.distributions.Normal
    reference = torch.distributions.kl_divergence(normal(mean, log_sigma.exp()), normal(0.0, 1.0))
    found = kl_per_voxel(mean, log_sigma)
    # Summed over channels, averaged over the 2 * 20 voxels.
    assert float(found) == pytest.approx(float(reference.sum() / 40), rel=1e-5)


def test_gradient_loss_sees_edges_and_no_offset() -> None:
    image = torch.zeros(1, 1, 4, 4)
    image[..., 2:] = 1.0
    assert float(gradient_l1(image + 0.3, image)) == pytest.approx(0, abs=1e-6)
    # Along the last axis one of three differences is 1, along the other none.
    assert float(gradient_l1(image, torch.zeros_like(image))) == pytest.approx((1 / 3) / 2)


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
    assert [row["step"] for row in facts["losses"]] == list(range(2, 41, 2))
    assert facts["reconstruction"]["split"] == "val"
    assert list(facts["reconstruction"]["by_case"]) == ["c4"]
    loaded = load_autoencoder(wanted, out)
    assert loaded.fingerprint == facts["fingerprint"]
    image = volumes_of(prepared).read("c4")[None]
    with torch.no_grad():
        error = loaded.model.decode(loaded.model.encode(image)[0]).clamp(0, 1) - image
    psnr = -10 * math.log10(float(error.square().mean()))
    assert facts["reconstruction"]["psnr_db"] == pytest.approx(psnr, abs=1e-3)
    assert not cast("nn.Module", loaded.model).training
    # Three rows of three planes, one pixel a millimetre: axial and coronal 16, sagittal 16 wide.
    picture = np.asarray(Image.open(out / "reconstruction.png"))
    assert picture.shape == (48, 16 * 3 + 4)
    assert not (out / "checkpoint.pt").exists()


@pytest.mark.parametrize("patch_size", [None, [8, 8, 4]])
def test_a_killed_run_resumes_bit_for_bit(
    prepared: Path, tmp_path: Path, patch_size: list[int] | None
) -> None:
    wanted = recipe({"patch_size": patch_size})

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
        monkeypatch.setattr("voxella.stages.autoencoder_trainer._WHOLE_VOXELS", 1000)
        train_autoencoder(wanted, prepared, tmp_path / "large")
        assert seen == [(4, 1, 8, 8, 4)] * 11
    finally:
        watching.remove()


def test_a_checkpoint_of_another_recipe_is_not_taken_up(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill(step: int, losses: Mapping[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(recipe(), prepared, tmp_path, checkpoint_every=1, on_step=kill)
    assert (tmp_path / "checkpoint.pt").is_file()
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


def test_a_loss_that_is_not_finite_names_step_and_cases(prepared: Path, tmp_path: Path) -> None:
    wanted = recipe({"steps": 40, "lr": 1e30, "batch_size": 1})
    with pytest.raises(UserError) as caught:
        train_autoencoder(wanted, prepared, tmp_path)
    assert "the loss is" in str(caught.value)
    assert " at step " in str(caught.value)
    assert "cases c" in str(caught.value)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"patch_size": [8, 8, 5]}, "patch_size [8, 8, 5]: not divisible by the autoencoder's"),
        ({"patch_size": [32, 8, 4]}, "larger than the volumes, [16, 16, 8]"),
        ({"patch_size": [8, 8]}, "the volumes have 3 axes"),
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
    assert one.psnr == pytest.approx(three.psnr, rel=1e-5)
    assert one.ssim == pytest.approx(three.ssim, rel=1e-4)
    few = evaluate_autoencoder(model, volumes, device=CPU, count=3)
    assert few.cases == ("c1", "c3", "c5")
    assert few.psnr == (one.psnr[0], one.psnr[2], one.psnr[4])


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
        load_autoencoder(recipe(), tmp_path)
    assert "next:  voxella train-autoencoder" in str(caught.value)
    with pytest.raises(UserError, match="latents would be those of a random network"):
        load_autoencoder(recipe(autoencoder_training=None))
    out = train_autoencoder(recipe({"steps": 1}), prepared, tmp_path)
    with pytest.raises(UserError, match="do not fit the recipe's autoencoder"):
        load_autoencoder(recipe(autoencoder=KL | {"channels": [8, 16]}), out)


def test_a_trained_autoencoder_encodes(prepared: Path, tmp_path: Path) -> None:
    wanted = recipe({"steps": 1})
    out = train_autoencoder(wanted, prepared, tmp_path / "ae")
    encode(wanted, prepared, tmp_path / "no reports are read", tmp_path, out, device="cpu")
    cache = LatentCache.open(tmp_path / "latents", wanted.latent)
    assert cache.statistics.cases == 4
    image = volumes_of(prepared).read("c2")[None]
    with torch.no_grad():
        mean, log_sigma = load_autoencoder(wanted, out).model.encode(image)
    assert torch.equal(cache.read("c2")[0], mean[0])
    assert torch.equal(cache.read("c2")[1], log_sigma[0])


def test_weights_named_by_the_recipe_serve_like_trained_ones(
    prepared: Path, tmp_path: Path
) -> None:
    out = train_autoencoder(recipe({"steps": 1}), prepared, tmp_path)
    named = recipe(
        autoencoder=KL | {"weights": str(out / "model.safetensors")}, autoencoder_training=None
    )
    assert load_autoencoder(named).fingerprint == load_autoencoder(recipe(), out).fingerprint
