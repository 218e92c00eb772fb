"""The small KL autoencoder: shapes, determinism, and weights from a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import AutoencoderKL
from safetensors.torch import save_file

from voxella.errors import UserError
from voxella.plugins.contracts import Autoencoder
from voxella_backbones.autoencoder_plugin import build_kl
from voxella_backbones.kl_autoencoder import KLAutoencoder

SMALL: dict[str, Any] = {"channels": [4, 8, 8], "norm_groups": 4}


def _kl(
    dims: int = 3, in_channels: int = 1, latent_channels: int = 4, **more: Any
) -> KLAutoencoder:
    torch.manual_seed(0)
    module = build_kl(
        spatial_dims=dims,
        in_channels=in_channels,
        latent_channels=latent_channels,
        **(SMALL | more),
    )
    assert isinstance(module, KLAutoencoder)
    assert isinstance(module, Autoencoder), "keeps the contract"
    return module


@pytest.mark.parametrize(
    ("dims", "in_channels", "latent_channels", "size"),
    [(3, 1, 4, (8, 12, 16)), (3, 2, 2, (8, 8, 8)), (2, 3, 3, (16, 8))],  # the last: PathLDM's
)
def test_shapes(dims: int, in_channels: int, latent_channels: int, size: tuple[int, ...]) -> None:
    module = _kl(dims, in_channels, latent_channels)
    assert (module.factor, module.latent_channels) == (4, latent_channels)
    images = torch.rand(2, in_channels, *size)
    mean, log_sigma = module.encode(images)
    small = tuple(n // 4 for n in size)
    assert mean.shape == log_sigma.shape == (2, latent_channels, *small)
    assert module.decode(mean).shape == images.shape


@pytest.mark.parametrize("channels", [[4], [4, 8], [4, 4, 8, 8]])
def test_each_level_below_the_first_halves_the_grid(channels: list[int]) -> None:
    module = _kl(channels=channels)
    assert module.factor == 2 ** (len(channels) - 1)
    assert module.encode(torch.rand(1, 1, 8, 8, 8))[0].shape[2:] == (8 // module.factor,) * 3


def test_encode_is_monais_mean_and_the_logarithm_of_its_sigma() -> None:
    module = _kl()
    theirs = AutoencoderKL(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        channels=(4, 8, 8),
        num_res_blocks=1,
        attention_levels=(False,) * 3,
        latent_channels=4,
        norm_num_groups=4,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )
    theirs.load_state_dict(module.state_dict(), strict=True)
    images = torch.rand(1, 1, 8, 8, 8)
    mean, log_sigma = module.encode(images)
    expected_mean, expected_sigma = theirs.encode(images)
    torch.testing.assert_close(mean, expected_mean)
    torch.testing.assert_close(log_sigma.exp(), expected_sigma)
    torch.testing.assert_close(module.decode(mean), theirs.decode(mean))


@pytest.mark.parametrize("training", [True, False])
def test_encode_never_draws(training: bool) -> None:
    module = _kl().train(training)
    images = torch.rand(1, 1, 8, 8, 8)
    state = torch.get_rng_state()
    first, second = module.encode(images), module.encode(images)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_images_are_clipped_when_evaluating_and_not_when_training() -> None:
    module = _kl()
    latents = torch.randn(1, 4, 4, 4, 4) * 50
    raw = module.train().decode(latents)
    assert raw.min() < 0
    assert torch.equal(module.eval().decode(latents), raw.clamp(0, 1))


def test_metatensors_come_out_plain() -> None:
    module = _kl()
    images = torch.rand(1, 1, 8, 8, 8)
    mean, log_sigma = module.encode(MetaTensor(images))
    assert type(mean) is type(log_sigma) is torch.Tensor
    assert torch.equal(mean, module.encode(images)[0])
    assert type(module.decode(MetaTensor(mean))) is torch.Tensor


def test_a_cast_model_takes_float_images() -> None:
    module = _kl().bfloat16()
    mean, _ = module.encode(torch.rand(1, 1, 8, 8, 8))
    assert mean.dtype is torch.bfloat16


@pytest.mark.parametrize("form", ["safetensors", "pt", "state_dict", "module."])
def test_weights_go_round_with_their_checksum(tmp_path: Path, form: str) -> None:
    first = _kl()
    assert first.weights_sha256 is None
    state = {name: tensor.contiguous() for name, tensor in first.state_dict().items()}
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        save_file(state, path)
    elif form == "module.":
        torch.save({"module." + name: tensor for name, tensor in state.items()}, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if form == "state_dict" else state, path)
    torch.manual_seed(99)
    second = build_kl(spatial_dims=3, in_channels=1, latent_channels=4, weights=path, **SMALL)
    assert isinstance(second, KLAutoencoder)
    assert second.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    images = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(second.encode(images)[0], first.encode(images)[0])


def test_a_missing_weights_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no weights of .*absent\.pt does not exist") as error:
        _kl(weights=tmp_path / "absent.pt")
    assert "under `weights`" in str(error.value)


def test_another_networks_file_says_what_differs(tmp_path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in _kl().state_dict().items()}
    bias = state.pop("quant_conv_mu.conv.bias")
    state["stranger"] = bias
    state["post_quant_conv.conv.bias"] = torch.zeros(7)
    path = tmp_path / "other.safetensors"
    save_file(state, path)
    with pytest.raises(UserError) as error:
        _kl(weights=path)
    text = str(error.value)
    assert "1 missing: quant_conv_mu.conv.bias" in text
    assert "1 unknown: stranger" in text
    assert "1 of another shape: post_quant_conv.conv.bias (7,) instead of (4,)" in text


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors"])
def test_a_broken_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(UserError, match="cannot be read as weights"):
        _kl(weights=tmp_path / name)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Path}, tmp_path / "code.pt")
    with pytest.raises(UserError, match="cannot be read as weights"):
        _kl(weights=tmp_path / "code.pt")


def test_a_file_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(UserError, match="holds no weights"):
        _kl(weights=tmp_path / "none.pt")


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"channels \[6, 8\] with norm_groups 4"):
        _kl(channels=[6, 8])
    with pytest.raises(UserError, match="1 spatial dimensions"):
        _kl(dims=1)
    with pytest.raises(UserError, match="multiples of 4 along each axis"):
        _kl().encode(torch.rand(1, 1, 8, 8, 6))
