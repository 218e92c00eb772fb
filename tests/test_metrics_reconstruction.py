"""Errors, PSNR and SSIM against closed forms, numpy and MONAI's metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics.regression import MAEMetric, MSEMetric, PSNRMetric, SSIMMetric

from voxella.metrics.reconstruction import band_errors, mae, mse_bytes, psnr, ssim


def pair(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(shape, generator=generator)
    return a, (a + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)


def test_psnr_has_its_closed_form() -> None:
    a = torch.zeros(3, 2, 4, 4, 4)
    b = torch.stack(
        [torch.zeros(2, 4, 4, 4), torch.full((2, 4, 4, 4), 0.1), torch.ones(2, 4, 4, 4)]
    )
    assert psnr(a, b).tolist() == pytest.approx([math.inf, 20.0, 0.0], abs=1e-5)
    assert psnr(a, b, data_range=10.0)[1].item() == pytest.approx(40.0, abs=1e-5)


def test_mse_is_monais_of_bytes() -> None:
    a, b = pair(2, 3, 16, 16)
    expected = MSEMetric()(255 * a, 255 * b).flatten()
    torch.testing.assert_close(mse_bytes(a, b), expected, rtol=1e-5, atol=0)
    # An error of one grey value everywhere.
    assert mse_bytes(a, a + 1 / 255).tolist() == pytest.approx([1.0, 1.0], rel=1e-3)
    # PSNR is the same number in another unit.
    db = 10 * torch.log10(255.0**2 / mse_bytes(a, b))
    torch.testing.assert_close(psnr(a, b), db)


@pytest.mark.parametrize(
    ("dims", "shape"), [(2, (2, 1, 24, 31)), (2, (1, 3, 16, 16)), (3, (2, 2, 16, 13, 18))]
)
def test_ssim_is_monais(dims: int, shape: tuple[int, ...]) -> None:
    a, b = pair(*shape)
    theirs = SSIMMetric(spatial_dims=dims, data_range=1.0, win_size=11, kernel_sigma=1.5)
    expected = theirs(a, b).flatten()
    torch.testing.assert_close(ssim(a, b), expected, atol=1e-4, rtol=0)


def test_ssim_of_two_constants_is_the_luminance_term() -> None:
    a, b = torch.full((1, 1, 12, 12, 12), 0.4), torch.full((1, 1, 12, 12, 12), 0.7)
    expected = (2 * 0.4 * 0.7 + 1e-4) / (0.4**2 + 0.7**2 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-4)


def test_ssim_is_one_for_equals_and_symmetric_and_falls_with_noise() -> None:
    a, b = pair(1, 1, 20, 20, 12)
    assert ssim(a, a).item() == pytest.approx(1.0, abs=1e-6)
    assert ssim(a, b).item() == pytest.approx(ssim(b, a).item(), abs=1e-6)
    assert ssim(a, b).item() < 0.95


def test_small_axes_take_a_smaller_window() -> None:
    a, b = pair(2, 1, 16, 16, 6)
    theirs = SSIMMetric(
        spatial_dims=3, data_range=1.0, win_size=(11, 11, 5), kernel_sigma=(1.5,) * 3
    )
    torch.testing.assert_close(ssim(a, b), theirs(a, b).flatten(), atol=1e-4, rtol=0)


def test_shapes_have_to_match() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        psnr(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5))
    with pytest.raises(ValueError, match="two or three spatial axes"):
        ssim(torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))


def test_psnr_and_mae_are_monais() -> None:
    a, b = pair(3, 2, 8, 9, 7)
    torch.testing.assert_close(psnr(a, b), PSNRMetric(max_val=1.0)(a, b).flatten())
    torch.testing.assert_close(mae(a, b), MAEMetric()(a, b).flatten())


def test_band_errors_are_numpys() -> None:
    a, b = pair(2, 1, 9, 8, 7)
    ends = [0.1, 0.3, 0.6]
    sums, voxels = band_errors(a, b, ends)
    assert sums.shape == voxels.shape == (2, 4)
    limits = [-np.inf, *ends, np.inf]
    for k in range(2):
        x, y = a[k].numpy(), b[k].numpy()
        for band in range(4):
            inside = (y >= np.float32(limits[band])) & (y < np.float32(limits[band + 1]))
            assert voxels[k, band] == inside.sum()
            assert float(sums[k, band]) == pytest.approx(np.abs(x - y)[inside].sum(), rel=1e-5)
    torch.testing.assert_close((sums.sum(1) / voxels.sum(1)).float(), mae(a, b))


def test_a_band_holds_its_lower_end() -> None:
    b = torch.tensor([0.0, 0.25, 0.5, 1.0]).reshape(1, 1, 2, 2)
    sums, voxels = band_errors(b + 0.5, b, [0.25, 0.5])
    assert voxels.tolist() == [[1, 1, 2]]
    assert sums.tolist() == [[0.5, 0.5, 1.0]]
