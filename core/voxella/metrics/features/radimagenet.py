"""RadImageNet's ResNet-50: the paper's 2D features, on every slice of each of three planes.

Mei et al. 2022 (Radiology: Artificial Intelligence 4:e210315), in the public conversion of the
Keras weights to PyTorch (``RadImageNet-ResNet50_notop.pth``). Keras' ResNet-50 is not torchvision's
nor MONAI's: every convolution has a bias, a stage's stride lies in the first 1x1 convolution of a
block and not in its 3x3, and batch norm's epsilon is 1.001e-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from voxella.hashing import sha256_json
from voxella.metrics.features.network import PLANES, Plane, TorchFeatures
from voxella.metrics.features.weights import load_released

__all__ = ["LAYERS", "WIDTH", "KerasResNet", "radimagenet"]

NAME = "radimagenet-resnet50"
LAYERS = (3, 4, 6, 3)
WIDTH = 64
_EXPANSION = 4
_EPS = 1.001e-5


def radimagenet(
    weights: Path,
    *,
    layers: Sequence[int] = LAYERS,
    width: int = WIDTH,
    device: torch.device | str = "cpu",
) -> list[TorchFeatures]:
    """Return the network once per plane, sagittal, coronal, axial; ``dim`` 2048, one module.

    Slices in [0, 1] go in with their channel repeated to three, as in the released evaluation of
    the paper: in BGR order, which for equal channels is the same, and without subtracting the mean
    that others subtract.

    Args:
        weights: The conversion's file, names to tensors.
        layers: Blocks per stage.
        width: Channels of the first stage.
        device: Where to compute.

    Raises:
        UserError: The file is missing or holds another network.
    """
    module = KerasResNet(layers, width)
    sha256 = load_released(module, weights, what="RadImageNet's ResNet-50 (Keras conversion)")
    module.eval().requires_grad_(False).to(device)
    return [_of_plane(module, plane, sha256, layers, width, device) for plane in PLANES]


def _of_plane(
    module: KerasResNet,
    plane: Plane,
    sha256: str,
    layers: Sequence[int],
    width: int,
    device: torch.device | str,
) -> TorchFeatures:
    name = f"{NAME}-{plane}"
    return TorchFeatures(
        name=name,
        fingerprint=sha256_json([name, sha256, list(layers), width]),
        dim=module.dim,
        comparable_with_paper=(tuple(layers), width) == (LAYERS, WIDTH),
        module=module,
        weights_sha256=sha256,
        plane=plane,
        channels=3,
        device=device,
    )


class KerasResNet(nn.Module):
    """Keras' ResNet without its top, ``(B, 3, H, W)`` to ``(B, 32 width)``, averaged over space."""

    def __init__(self, layers: Sequence[int] = LAYERS, width: int = WIDTH) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(width, eps=_EPS)
        # Keras pads with zeros, torch with minus infinity: after a ReLU the maximum is the same.
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = width
        for stage, blocks in enumerate(layers):
            inner, stride = width * 2**stage, 1 if stage == 0 else 2
            first = _Bottleneck(channels, inner, stride)
            channels = inner * _EXPANSION
            rest = [_Bottleneck(channels, inner, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(first, *rest))
        self.stages = [f"layer{stage + 1}" for stage in range(len(layers))]
        self.dim = channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean over space of the last stage's features."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))


class _Bottleneck(nn.Module):
    """1x1 with the stride, 3x3, 1x1; a projected shortcut where the shape changes."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        outer = inner * _EXPANSION
        self.conv1 = nn.Conv2d(channels, inner, 1, stride=stride)
        self.bn1 = nn.BatchNorm2d(inner, eps=_EPS)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(inner, eps=_EPS)
        self.conv3 = nn.Conv2d(inner, outer, 1)
        self.bn3 = nn.BatchNorm2d(outer, eps=_EPS)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, outer, 1, stride=stride), nn.BatchNorm2d(outer, eps=_EPS)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        x = self.bn3(self.conv3(x))
        return (x + shortcut).relu()
