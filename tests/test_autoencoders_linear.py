"""haar and pca against what they must be: lossless, orthonormal, and scikit-learn's components."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from voxella.errors import UserError
from voxella.testing.runner import run_contract
from voxella_backbones.linear import build_haar, build_pca
from voxella_backbones.pca_autoencoder import Pca


def images(count: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("axes", "levels"), [(2, 1), (2, 3), (3, 1), (3, 2)])
def test_haar_loses_nothing_and_keeps_sums_of_squares(axes: int, levels: int) -> None:
    factor = 2**levels
    coder = build_haar(
        spatial_dims=axes, in_channels=2, latent_channels=2 * factor**axes, levels=levels
    )
    given = images(2, 2, *[2 * factor] * axes)
    latents, log_sigma = coder.encode(given)
    assert log_sigma is None
    assert latents.shape == (2, 2 * factor**axes, *[2] * axes)
    torch.testing.assert_close(coder.decode(latents), given, atol=1e-6, rtol=0)
    # Parseval, of the image in [-1, 1].
    torch.testing.assert_close(latents.square().sum(), (2 * given - 1).square().sum())


def test_haar_is_the_two_tap_filter_bank() -> None:
    """One level in 2D, term by term: sums and differences of neighbours over 2."""
    coder = build_haar(spatial_dims=2, in_channels=1, latent_channels=4, levels=1)
    given = images(1, 1, 6, 4)
    latents, _ = coder.encode(given)
    x = 2 * given[0, 0] - 1
    a, b, c, d = x[::2, ::2], x[::2, 1::2], x[1::2, ::2], x[1::2, 1::2]
    wanted = torch.stack([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]) / 2
    torch.testing.assert_close(latents[0], wanted)


def test_haars_first_channel_is_the_mean() -> None:
    coder = build_haar(spatial_dims=3, in_channels=1, latent_channels=64, levels=2)
    given = images(1, 1, 4, 4, 8)
    latents, _ = coder.encode(given)
    means = torch.nn.functional.avg_pool3d(2 * given - 1, 4)
    torch.testing.assert_close(latents[:, :1], means * math.sqrt(64))


def test_noise_stays_white_under_haar() -> None:
    coder = build_haar(spatial_dims=3, in_channels=1, latent_channels=8, levels=1)
    assert isinstance(coder, torch.nn.Module)
    coder.train()  # unclipped
    # Unit impulses at all voxels of a patch: their coefficients are the transform's columns.
    rows = []
    for place in itertools.product(range(2), repeat=3):
        latents = torch.zeros(1, 8, 1, 1, 1)
        latents[0, place[0] * 4 + place[1] * 2 + place[2]] = 1.0
        rows.append((2 * coder.decode(latents) - 1).flatten())
    gram = torch.stack(rows) @ torch.stack(rows).T
    torch.testing.assert_close(gram, torch.eye(8))


def test_haar_refuses_other_channels_and_axes() -> None:
    with pytest.raises(UserError, match="every coefficient is kept") as caught:
        build_haar(spatial_dims=3, in_channels=1, latent_channels=4, levels=1)
    assert caught.value.remedy == "--set latent.channels=8"
    coder = build_haar(spatial_dims=2, in_channels=1, latent_channels=4, levels=1)
    with pytest.raises(UserError, match="does not fit haar"):
        coder.encode(images(1, 1, 5, 4))


def fitted(whiten: float, channels: int, given: Tensor) -> Pca:
    coder = build_pca(
        spatial_dims=2, in_channels=1, latent_channels=channels, factor=4, whiten=whiten
    )
    assert isinstance(coder, Pca)
    coder.fit([given[:2], given[2:]])
    return coder.eval()


def smooth(count: int) -> Tensor:
    """Return images whose patches do vary more along some directions than along others."""
    coarse = images(count, 1, 4, 4)
    fine = images(count, 1, 8, 8, seed=1)
    return 0.7 * torch.nn.functional.interpolate(coarse, size=(8, 8), mode="bilinear") + 0.3 * fine


def test_pca_is_scikit_learns() -> None:
    given = smooth(50)
    coder = fitted(1.0, 5, given)
    patches = given.reshape(50, 2, 4, 2, 4).permute(0, 1, 3, 2, 4).reshape(-1, 16)
    reference = PCA(5, svd_solver="full").fit((2 * patches - 1).double().numpy())
    directions = coder.basis.double().numpy() @ reference.components_.T
    np.testing.assert_allclose(np.abs(directions), np.eye(5), atol=1e-4)
    # scikit-learn divides by n - 1, and n is 200.
    expected = np.sqrt(reference.explained_variance_ * 199 / 200)
    np.testing.assert_allclose(coder.std.numpy(), expected, rtol=1e-4)
    latents, log_sigma = coder.encode(given)
    assert log_sigma is None
    assert latents.shape == (50, 5, 2, 2)
    assert latents.std(dim=(0, 2, 3)) == pytest.approx([1.0] * 5, abs=0.01)  # whitened
    told = reference.inverse_transform(reference.transform((2 * patches - 1).double().numpy()))
    restored = coder.decode(latents).reshape(50, 2, 4, 2, 4).permute(0, 1, 3, 2, 4).reshape(-1, 16)
    np.testing.assert_allclose(restored.numpy(), np.clip((told + 1) / 2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("whiten", [0.0, 0.5, 1.0])
def test_pca_of_all_components_loses_nothing(whiten: float) -> None:
    given = smooth(20)
    coder = fitted(whiten, 16, given)
    torch.testing.assert_close(coder.decode(coder.encode(given)[0]), given, atol=1e-5, rtol=0)


def test_whitening_by_half_leaves_the_root_of_a_components_size() -> None:
    given = smooth(20)
    plain, half = fitted(0.0, 4, given), fitted(0.5, 4, given)
    ratio = plain.encode(given)[0] / half.encode(given)[0]
    torch.testing.assert_close(ratio[0, :, 0, 0], half.std.sqrt(), rtol=1e-4, atol=0)


def test_pca_refuses_more_components_than_values() -> None:
    with pytest.raises(UserError, match="17 components of patches of 16"):
        build_pca(spatial_dims=2, in_channels=1, latent_channels=17, factor=4)
    with pytest.raises(UserError, match="does not fit pca"):
        fitted(0.5, 4, images(4, 1, 8, 8)).encode(images(1, 1, 6, 8))


def test_pca_holds_its_contract() -> None:
    results = list(run_contract("autoencoders", "pca"))
    assert [(r.check, r.message) for r in results if r.outcome == "failed"] == []
