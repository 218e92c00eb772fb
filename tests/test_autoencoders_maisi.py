"""MAISI's autoencoder: the published size, splitting, float16, and released weights' names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from torch import nn

from voxella.errors import UserError
from voxella.plugins.contracts import Autoencoder
from voxella_backbones.autoencoder_plugin import build_maisi
from voxella_backbones.maisi_autoencoder import MaisiAutoencoder

SMALL: dict[str, Any] = {"channels": [4, 8, 8], "norm_groups": 4, "res_blocks": 1}
RELEASED = "VOXELLA_MAISI_AUTOENCODER"  # path of the released weights, where they are at hand


def _maisi(**more: Any) -> MaisiAutoencoder:
    torch.manual_seed(0)
    module = build_maisi(
        **({"spatial_dims": 3, "in_channels": 1, "latent_channels": 4} | SMALL | more)
    )
    assert isinstance(module, MaisiAutoencoder)
    assert isinstance(module, Autoencoder), "keeps the contract"
    return module.eval()


def test_parameters_at_the_released_size() -> None:
    with torch.device("meta"):
        module = build_maisi(spatial_dims=3, in_channels=1, latent_channels=4)
    assert isinstance(module, nn.Module)
    count = sum(parameter.numel() for parameter in module.parameters())
    assert count == 20_944_897  # counted on MONAI's class in its released configuration
    assert module.factor == 4


def test_it_is_monais_network() -> None:
    module = _maisi()
    theirs = AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        num_res_blocks=(1, 1, 1),
        num_channels=(4, 8, 8),
        attention_levels=(False,) * 3,
        latent_channels=4,
        norm_num_groups=4,
        num_splits=1,
    )
    theirs.load_state_dict(module.state_dict(), strict=True)
    images = torch.rand(1, 1, 16, 16, 8)
    mean, log_sigma = module.encode(images)
    assert mean.shape == (1, 4, 4, 4, 2)
    expected_mean, expected_sigma = theirs.encode(images)
    torch.testing.assert_close(mean, expected_mean)
    torch.testing.assert_close(log_sigma.exp(), expected_sigma)
    torch.testing.assert_close(module.decode(mean), theirs.decode(mean).clamp(0, 1))


@pytest.mark.parametrize("num_splits", [2, 4])
def test_splitting_changes_no_value(num_splits: int) -> None:
    whole, parts = _maisi(), _maisi(num_splits=num_splits)
    parts.load_state_dict(whole.state_dict(), strict=True)
    images = torch.rand(1, 1, 8, 16 * num_splits, 8)
    mean, log_sigma = whole.encode(images)
    split_mean, split_log_sigma = parts.encode(images)
    torch.testing.assert_close(split_mean, mean)
    torch.testing.assert_close(split_log_sigma, log_sigma)
    torch.testing.assert_close(parts.decode(mean), whole.decode(mean))


def test_a_split_that_would_cut_wrongly_is_refused() -> None:
    module = _maisi(num_splits=2)
    with pytest.raises(UserError, match="multiples of 8, at least 32") as error:
        module.encode(torch.rand(1, 1, 8, 20, 8))
    assert "20 voxels along its second axis" in str(error.value)
    with pytest.raises(UserError, match="num_splits 2 cannot cut"):
        module.decode(torch.rand(1, 4, 2, 6, 2))


def test_float16_norms_do_not_break_the_cpu() -> None:
    plain, half = _maisi(), _maisi(norm_float16=True)
    half.load_state_dict(plain.state_dict())
    images = torch.rand(1, 1, 8, 8, 8)
    mean, _ = half.encode(images)
    assert torch.equal(mean, plain.encode(images)[0])
    assert torch.equal(half.decode(mean), plain.decode(mean))


def test_the_callers_autocast_stays() -> None:
    module = _maisi()
    images = torch.rand(1, 1, 8, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mean, _ = module.encode(images)
        assert torch.is_autocast_enabled("cpu")
    assert mean.dtype is torch.bfloat16
    torch.testing.assert_close(mean.float(), module.encode(images)[0], atol=0.05, rtol=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_float16_norms_on_cuda() -> None:
    plain, half = _maisi().cuda(), _maisi(norm_float16=True).cuda()
    half.load_state_dict(plain.state_dict())
    images = torch.rand(1, 1, 8, 8, 8, device="cuda")
    mean, _ = half.encode(images)
    assert mean.dtype is torch.float16
    torch.testing.assert_close(mean.float(), plain.encode(images)[0], atol=0.02, rtol=0.05)


def test_weights_of_both_namings_load(tmp_path: Path) -> None:
    first = _maisi()
    now = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    # The first release had no splitting layer, hence one ".conv" less inside encoder and decoder.
    before = {
        name.replace(".conv.conv.", ".conv.") if name.startswith(("enc", "dec")) else name: tensor
        for name, tensor in now.items()
    }
    assert set(before) != set(now)
    for state, name in ((now, "now.pt"), (before, "before.pt")):
        torch.save(state, tmp_path / name)
        torch.manual_seed(5)
        second = build_maisi(
            spatial_dims=3, in_channels=1, latent_channels=4, weights=tmp_path / name, **SMALL
        )
        assert isinstance(second, MaisiAutoencoder)
        assert second.weights_sha256 is not None
        assert all(torch.equal(t, now[n]) for n, t in second.state_dict().items())


def test_a_file_of_another_size(tmp_path: Path) -> None:
    torch.save(_maisi(res_blocks=2).state_dict(), tmp_path / "larger.pt")
    with pytest.raises(UserError, match="does not hold the weights of this network") as error:
        _maisi(weights=tmp_path / "larger.pt")
    assert "unknown: " in str(error.value)


def test_two_dimensions_are_kls() -> None:
    with pytest.raises(UserError, match="use kl for 2D"):
        _maisi(spatial_dims=2)


@pytest.mark.skipif(RELEASED not in os.environ, reason=f"{RELEASED} names no weights file")
def test_the_released_weights_load() -> None:
    module = build_maisi(
        spatial_dims=3, in_channels=1, latent_channels=4, weights=Path(os.environ[RELEASED])
    )
    assert isinstance(module, MaisiAutoencoder)
    images = torch.linspace(0, 1, 32).expand(1, 1, 32, 32, 32)
    reconstruction = module.eval().decode(module.encode(images)[0])
    assert (reconstruction - images).abs().mean() < 0.1
