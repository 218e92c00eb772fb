"""LPIPS against a formula of its own, on random weights in the released files' layouts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_autoencoder import CPU, make_prepared
from tiny_autoencoder import recipe as recipe_of_volumes
from tiny_autoencoder import train_autoencoder as train
from tiny_first_stage import make_tiles, recipe_of_tiles
from torch import Tensor
from torch.nn import functional

from voxella.autoencoder.losses import autoencoder_losses
from voxella.autoencoder.lpips import LPIPS, PerceptualLoss, check_images, load_lpips
from voxella.autoencoder.settings import check_files, deciding_settings
from voxella.autoencoder.train import train_autoencoder
from voxella.errors import UserError
from voxella.recipe.training import AutoencoderTraining, Perceptual

SMALL = (4, 6, 8, 5, 7)
FULL = (64, 128, 256, 512, 512)
# Where torchvision's VGG16 has its convolutions, and the ReLUs that LPIPS looks at, by block.
PLACES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))


def vgg16(widths: Sequence[int] = SMALL) -> dict[str, Tensor]:
    generator, state, channels = torch.Generator().manual_seed(0), {}, 3
    for places, width in zip(PLACES, widths, strict=True):
        for place in places:
            spread = (2 / (9 * channels)) ** 0.5
            weight = spread * torch.randn(width, channels, 3, 3, generator=generator)
            state[f"features.{place}.weight"] = weight
            state[f"features.{place}.bias"] = 0.1 * torch.randn(width, generator=generator)
            channels = width
    # The classifier that the file goes on with.
    return {**state, "classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)}


def heads(widths: Sequence[int] = SMALL) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        f"lin{k}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
        for k, width in enumerate(widths)
    }


def files(folder: Path, widths: Sequence[int] = SMALL) -> tuple[Path, Path]:
    torch.save(vgg16(widths), folder / "vgg16.pth")
    torch.save(heads(widths), folder / "vgg.pth")
    return folder / "vgg16.pth", folder / "vgg.pth"


def pair(edge: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(2, 3, edge, edge, generator=generator)
    return images, (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def by_hand(images: Tensor, targets: Tensor) -> Tensor:
    """Equation 1 of Zhang et al. 2018 in double precision, one pixel's vector at a time."""
    network, weights = vgg16(), heads()
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]

    def features(x: Tensor) -> list[Tensor]:
        # ImageNet's constants in [0, 1]; LPIPS has them rounded, in [-1, 1].
        x, found = (x.double() - mean) / std, []
        for block, places in enumerate(PLACES):
            x = x if block == 0 else functional.max_pool2d(x, 2)
            for place in places:
                kernel, bias = (
                    network[f"features.{place}.{n}"].double() for n in ("weight", "bias")
                )
                x = functional.conv2d(x, kernel, bias, padding=1).clamp(min=0)
            found.append(x)
        return found

    total = torch.zeros(len(images), dtype=torch.float64)
    both = zip(features(images), features(targets), strict=True)
    for block, (one, two) in enumerate(both):
        units = [x / x.norm(dim=1, keepdim=True).clamp(min=1e-10) for x in (one, two)]
        by_channel = (units[0] - units[1]).square() * weights[f"lin{block}.model.1.weight"].double()
        total += by_channel.sum(dim=(1, 2, 3)) / (one.shape[2] * one.shape[3])
    return total


def test_it_is_the_formula(tmp_path: Path) -> None:
    module = load_lpips(*files(tmp_path), SMALL)
    images, targets = pair()
    found = module(images, targets)
    assert found.shape == (2,)
    assert float(found.min()) > 1e-3
    # The constants of LPIPS are ImageNet's, rounded to three digits.
    torch.testing.assert_close(found.double(), by_hand(images, targets), rtol=5e-3, atol=0)
    torch.testing.assert_close(module(targets, images), found)
    assert not module(images, images).any()


def test_its_constants_are_imagenets_in_its_own_range() -> None:
    module = LPIPS(SMALL)
    # 2 mean - 1 and 2 std, as released: three digits.
    assert module.shift.flatten().tolist() == pytest.approx([-0.030, -0.088, -0.188])
    assert module.scale.flatten().tolist() == pytest.approx([0.458, 0.448, 0.450])
    for found, mean in zip(module.shift.flatten().tolist(), (0.485, 0.456, 0.406), strict=True):
        assert found == pytest.approx(2 * mean - 1, abs=1e-3)
    for found, std in zip(module.scale.flatten().tolist(), (0.229, 0.224, 0.225), strict=True):
        assert found == pytest.approx(2 * std, abs=1e-3)


def test_it_is_as_large_as_released() -> None:
    with torch.device("meta"):
        module = LPIPS()
    counts = [sum(p.numel() for p in part.parameters()) for part in (module.features, module.heads)]
    # torchvision's VGG16 has 138,357,544, of which its classifier 123,642,856.
    assert counts == [138_357_544 - 123_642_856, 1472]
    # With the two constants, the 33 tensors that a first stage's checkpoint has of it.
    assert len(list(module.parameters())) + len(list(module.buffers())) == 33
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_gradients_are_those_of_finite_differences(tmp_path: Path) -> None:
    module = load_lpips(*files(tmp_path), SMALL)
    images, targets = pair(16)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(module(images, targets).sum(), images)
    step = 1e-5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        up, down = (by_hand(images + s * step, targets).sum() for s in (1, -1))
    assert float((gradient * step).sum()) == pytest.approx(float(up - down) / 2, rel=0.03)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("no vgg16", "no weights of VGG16"),
        ("no heads", "no weights of LPIPS' heads"),
        ("swapped", "26 missing"),
        ("no block", "missing: 28.weight"),
        ("wide heads", "of another shape: 2.weight"),
        ("text", "cannot be read as weights of VGG16"),
    ],
)
def test_a_missing_or_other_file_is_told(tmp_path: Path, damage: str, told: str) -> None:
    one, two = files(tmp_path)
    if damage == "no vgg16":
        one.unlink()
    elif damage == "no heads":
        two.unlink()
    elif damage == "swapped":
        one, two = two, one
    elif damage == "no block":
        state = vgg16()
        del state["features.28.weight"]
        torch.save(state, one)
    elif damage == "wide heads":
        torch.save(heads() | {"lin2.model.1.weight": torch.zeros(1, 9, 1, 1)}, two)
    else:
        one.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError) as caught:
        load_lpips(one, two, SMALL)
    assert told in str(caught.value)


def test_only_tiles_in_colour_are_compared() -> None:
    check_images(3, [16, 16])
    for channels, size, told in ((1, [32, 32], "1 channels"), (3, [16] * 3, "3 axes")):
        with pytest.raises(UserError, match=told):
            check_images(channels, size)
    with pytest.raises(UserError, match="edges of at least 16 pixels"):
        check_images(3, [32, 12])


def test_absent_files_are_told_before_anything_is_made(tmp_path: Path) -> None:
    block = {"vgg16": tmp_path / "a.pth", "heads": tmp_path / "b.pth"}
    training = AutoencoderTraining.model_validate({"perceptual": block})
    with pytest.raises(UserError) as caught:
        check_files(training)
    for key in ("vgg16: ", "heads: "):
        assert f"autoencoder_training.perceptual.{key}{tmp_path}" in str(caught.value)


def test_the_total_weighs_it() -> None:
    images, reconstruction = pair()
    settings = Perceptual(weight=0.25, vgg16=Path("a"), heads=Path("b"))
    training = AutoencoderTraining(perceptual=settings)
    found = autoencoder_losses(
        training, images, reconstruction, images, None, perceptual=torch.tensor(2.0)
    )
    assert set(found) == {"loss", "l1", "perceptual"}
    assert float(found["loss"]) == pytest.approx(float(found["l1"]) + 0.5)


def test_a_training_is_decided_by_the_files_content_not_their_place(tmp_path: Path) -> None:
    one, two = files(tmp_path)

    def decided(vgg: Path) -> dict[str, Any]:
        settings = Perceptual(vgg16=vgg, heads=two)
        return deciding_settings(AutoencoderTraining(perceptual=settings))

    before = decided(one)
    assert decided(one.rename(tmp_path / "moved.pth")) == before
    torch.save({**vgg16(), "features.0.bias": torch.ones(4)}, tmp_path / "other.pth")
    assert decided(tmp_path / "other.pth") != before
    assert "perceptual" not in deciding_settings(AutoencoderTraining())


def test_a_training_on_volumes_is_refused(tmp_path: Path) -> None:
    one, two = files(tmp_path)
    wanted = recipe_of_volumes({"perceptual": {"vgg16": str(one), "heads": str(two)}})
    with pytest.raises(UserError, match="1 channels on 3 axes"):
        train_autoencoder(wanted, make_prepared(tmp_path / "prepared"), tmp_path / "out")


def test_a_training_has_the_term_and_keeps_its_weights_to_itself(tmp_path: Path) -> None:
    one, two = files(tmp_path, FULL)
    prepared = make_tiles(tmp_path / "tiles")
    block = {"weight": 0.5, "vgg16": str(one), "heads": str(two)}
    out = train(recipe_of_tiles({"steps": 2, "perceptual": block}), prepared, tmp_path / "out")
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    # Before the adversary comes in.
    parts = rows[0]["loss/l1"] + rows[0]["loss/codebook"] + 0.5 * rows[0]["loss/perceptual"]
    assert rows[0]["loss/total"] == pytest.approx(parts, rel=1e-5)
    assert rows[0]["loss/perceptual"] > 0
    names = load_file(out / "model.safetensors")
    assert not [name for name in names if "features" in name or "heads" in name]
    loss = PerceptualLoss(Perceptual.model_validate(block), 3, [16, 16], CPU)
    images, targets = pair(16)
    torch.testing.assert_close(loss(images, targets), loss.network(images, targets).mean())
