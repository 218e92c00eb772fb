"""ResNet from torchvision's file: published size, the same logits, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxella.errors import UserError
from voxella_classifiers.plugin import build_resnet

WIDTHS, BLOCKS = (4, 6, 8, 10), (3, 4, 6, 3)
State = dict[str, Tensor]


def released(widths: tuple[int, ...] = WIDTHS) -> State:
    """What torchvision's ResNet-34 of these widths would be saved as: names and shapes by rule."""
    generator = torch.Generator().manual_seed(3)
    state: State = {}

    def convolution(name: str, outputs: int, inputs: int, kernel: int) -> None:
        fan_in = inputs * kernel**2
        drawn = torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        state[f"{name}.weight"] = drawn / fan_in**0.5

    def norm(name: str, width: int) -> None:
        for part, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5)):
            state[f"{name}.{part}"] = torch.rand(width, generator=generator) + low
        state[f"{name}.running_var"] = torch.rand(width, generator=generator) + 0.5

    convolution("conv1", widths[0], 3, 7)
    norm("bn1", widths[0])
    before = widths[0]
    for stage, (width, blocks) in enumerate(zip(widths, BLOCKS, strict=True), start=1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            convolution(f"{at}.conv1", width, before, 3)
            norm(f"{at}.bn1", width)
            convolution(f"{at}.conv2", width, width, 3)
            norm(f"{at}.bn2", width)
            if before != width:
                convolution(f"{at}.downsample.0", width, before, 1)
                norm(f"{at}.downsample.1", width)
            before = width
    state["fc.weight"], state["fc.bias"] = torch.randn(1000, before), torch.zeros(1000)
    return state


def normalised(x: Tensor, state: State, name: str) -> Tensor:
    parts = ("running_mean", "running_var", "weight", "bias")
    mean, variance, scale, shift = (state[f"{name}.{p}"].view(1, -1, 1, 1) for p in parts)
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def pooled_by_hand(x: Tensor, state: State) -> Tensor:
    """He et al. 2016 as torchvision has it, from pictures in [0, 1] to the last layer's input."""
    x = x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    x = x / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = normalised(functional.conv2d(x, state["conv1.weight"], stride=2, padding=3), state, "bn1")
    x = functional.max_pool2d(x.relu(), 3, stride=2, padding=1)
    for stage, blocks in enumerate(BLOCKS, start=1):
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1
            y = functional.conv2d(x, state[f"{at}.conv1.weight"], stride=stride, padding=1)
            y = normalised(y, state, f"{at}.bn1").relu()
            y = functional.conv2d(y, state[f"{at}.conv2.weight"], padding=1)
            y = normalised(y, state, f"{at}.bn2")
            if f"{at}.downsample.0.weight" in state:
                x = functional.conv2d(x, state[f"{at}.downsample.0.weight"], stride=stride)
                x = normalised(x, state, f"{at}.downsample.1")
            x = (x + y).relu()
    return x.mean(dim=(2, 3))


def build(weights: Path | None = None, **other: int) -> nn.Module:
    sizes = {"spatial_dims": 2, "in_channels": 3, "num_classes": 2, "depth": 34} | other
    module = build_resnet(**sizes, widths=WIDTHS, weights=weights)
    assert isinstance(module, nn.Module)
    return module.eval()


def test_the_full_size_is_the_published_one() -> None:
    with torch.device("meta"):
        module = build_resnet(spatial_dims=2, in_channels=3, num_classes=1000, depth=34)
    assert isinstance(module, nn.Module)
    # torchvision's documentation of ResNet34_Weights.IMAGENET1K_V1.
    assert sum(parameter.numel() for parameter in module.parameters()) == 21_797_672


def test_torchvisions_weights_give_torchvisions_features(tmp_path: Path) -> None:
    state = released()
    torch.save(state, tmp_path / "resnet34.pth")
    module = build(tmp_path / "resnet34.pth")
    picture = torch.rand((2, 3, 70, 66), generator=torch.Generator().manual_seed(1))
    head = next(layer for layer in module.modules() if isinstance(layer, nn.Linear))
    expected = head(pooled_by_hand(picture, state))
    with torch.no_grad():
        torch.testing.assert_close(module(picture), expected, rtol=1e-4, atol=1e-4)
    assert expected.abs().max() > 1e-2
    # The last layer is new: two classes, not a thousand.
    assert head.weight.shape == (2, WIDTHS[-1])
    with torch.device("meta"):
        assert next(build(tmp_path / "resnet34.pth").parameters()).is_meta


def test_other_weights_are_refused(tmp_path: Path) -> None:
    torch.save(released((4, 6, 8, 12)), tmp_path / "wider.pth")
    with pytest.raises(UserError, match="does not hold these weights") as refused:
        build(tmp_path / "wider.pth")
    assert "of another shape: layer4.0.conv1.weight (12, 8, 3, 3) instead of (10, 8, 3, 3)" in str(
        refused.value
    )
    with pytest.raises(UserError, match=r"absent\.pth does not exist"):
        build(tmp_path / "absent.pth")
    with pytest.raises(UserError, match=r"conv1.weight \(4, 3, 7, 7\) instead of \(4, 1, 7, 7\)"):
        build(tmp_path / "wider.pth", in_channels=1)
