"""Classifiers: published size, shapes, independence of size and batch, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from voxella.errors import UserError
from voxella.plugins.contracts import Classifier
from voxella_classifiers.plugin import build_cnn, build_efficientnet


def _cnn(**more: Any) -> nn.Module:
    torch.manual_seed(0)
    module = build_cnn(**({"spatial_dims": 3, "in_channels": 1, "num_classes": 2} | more))
    assert isinstance(module, nn.Module)
    assert isinstance(module, Classifier)
    return module


def test_efficientnet_has_the_papers_size() -> None:
    with torch.device("meta"):
        module = build_efficientnet(spatial_dims=3, in_channels=1, num_classes=2)
    assert isinstance(module, nn.Module)
    # EfficientNet-b0 in 3D with one input channel and two classes, counted on MONAI's class.
    assert sum(parameter.numel() for parameter in module.parameters()) == 4_690_942


@pytest.mark.parametrize("dims", [2, 3])
def test_efficientnet_gives_logits(dims: int) -> None:
    module = build_efficientnet(spatial_dims=dims, in_channels=1, num_classes=3)
    assert isinstance(module, nn.Module)
    module.eval()
    logits = module(torch.rand((2, 1, *(32,) * dims)))
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("dims", "size"), [(2, (9, 16)), (3, (8, 9, 5)), (3, (1, 1, 1))], ids=str)
def test_cnn_gives_logits_at_any_size(dims: int, size: tuple[int, ...]) -> None:
    module = _cnn(spatial_dims=dims, in_channels=2, num_classes=3, channels=[6, 12])
    logits = module(torch.rand(2, 2, *size))
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()


def test_cnn_judges_each_image_alone() -> None:
    module = _cnn()
    images = torch.rand(3, 1, 8, 8, 8)
    together = module(images)
    alone = torch.cat([module(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_cnn_learns_bright_from_dark() -> None:
    module = _cnn()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    torch.manual_seed(1)
    labels = torch.arange(16) % 2
    pattern = torch.zeros(8, 8, 8)
    pattern[2:5, 2:5, 2:5] = 1
    images = torch.rand(16, 1, 8, 8, 8) + pattern * labels.reshape(-1, 1, 1, 1, 1)
    for _ in range(40):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(module(images), labels))
        optimizer.step()
    assert torch.equal(module(images).argmax(dim=1), labels)


def test_sizes_that_cannot_be_built() -> None:
    with pytest.raises(UserError, match=r"cnn: 4 spatial dimensions, channels \[\]"):
        _cnn(spatial_dims=4, channels=[])
    with pytest.raises(UserError, match="efficientnet: 1 spatial dimensions") as error:
        build_efficientnet(spatial_dims=1, in_channels=1, num_classes=2)
    assert "2 or 3" in str(error.value)
