"""Entry point of the classifiers. Light: torch and MONAI are imported inside the builders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from voxella.plugins import hookimpl
from voxella.plugins.contracts import Classifier

__all__ = ["build_cnn", "build_efficientnet", "build_resnet", "voxella_factory"]


def build_efficientnet(*, spatial_dims: int, in_channels: int, num_classes: int) -> Classifier:
    """Build EfficientNet-b0, the paper's downstream classifier, with random weights.

    Args:
        spatial_dims: 2 or 3 (wired).
        in_channels: Image channels (wired).
        num_classes: Number of classes (wired).
    """
    from voxella_classifiers.efficientnet import efficientnet_b0

    return efficientnet_b0(spatial_dims, in_channels, num_classes)


def build_resnet(
    *,
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    depth: int = 18,
    widths: Sequence[int] = (64, 128, 256, 512),
    weights: Path | None = None,
) -> Classifier:
    """Build a ResNet.

    Args:
        spatial_dims: 2 or 3 (wired).
        in_channels: Image channels (wired).
        num_classes: Number of classes (wired).
        depth: 10, 18 or 34 layers.
        widths: Channels of the four stages.
        weights: Local ``.pth``, ``.pt`` or ``.safetensors`` file that training starts from, such as
            one that ``voxella convert torchvision`` wrote. None: random.
    """
    from voxella_classifiers.resnet import resnet

    return resnet(spatial_dims, in_channels, num_classes, depth, widths, weights)


def build_cnn(
    *,
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    channels: Sequence[int] = (8, 16, 32),
) -> Classifier:
    """Build a small convolutional classifier, for demonstrations and tests.

    Args:
        spatial_dims: 2 or 3 (wired).
        in_channels: Image channels (wired).
        num_classes: Number of classes (wired).
        channels: Width of each stage; every stage halves the grid.
    """
    from voxella_classifiers.cnn import SmallCNN

    return SmallCNN(spatial_dims, in_channels, num_classes, channels)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder of a classifier, or None when the name is not one of ours."""
    builders: dict[str, Callable[..., Any]] = {
        "efficientnet": build_efficientnet,
        "resnet": build_resnet,
        "cnn": build_cnn,
    }
    return builders.get(name)
