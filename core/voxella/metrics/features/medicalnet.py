"""Med3D's ResNet-50, trained to segment 23 data sets: the paper's 3D features.

Chen et al. 2019 (arXiv 1904.00625), released as MedicalNet (``resnet_50_23dataset.pth``). It is
MONAI's ResNet with two differences that its weights cannot show: the first convolution has stride
2, and the last two stages keep their resolution and dilate instead (2 and 4), as networks for
segmentation do. With MONAI's own strides the file loads without a word and the features differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from monai.networks.nets.resnet import ResNet, ResNetBottleneck

from voxella.hashing import sha256_json
from voxella.metrics.features.network import TorchFeatures
from voxella.metrics.features.weights import load_released

__all__ = ["LAYERS", "WIDTH", "medicalnet", "medicalnet_resnet"]

NAME = "medicalnet-resnet50-23datasets"
LAYERS = (3, 4, 6, 3)
WIDTH = 64
# Of the third and fourth stage.
_DILATIONS = (2, 4)


def medicalnet(
    weights: Path,
    *,
    layers: Sequence[int] = LAYERS,
    width: int = WIDTH,
    device: torch.device | str = "cpu",
) -> TorchFeatures:
    """Return the network with features averaged over space, ``dim`` 2048.

    Intensities in [0, 1] go in as they are, as in the released evaluation of the paper; MedicalNet
    itself was trained on volumes of mean 0 and deviation 1. That evaluation ran in float16; this
    one runs in float32.

    Args:
        weights: MedicalNet's file, ``{"state_dict": {"module.conv1.weight": ...}}``.
        layers: Blocks per stage.
        width: Channels of the first stage.
        device: Where to compute.

    Raises:
        UserError: The file is missing or holds another network.
    """
    module = medicalnet_resnet(layers, width)
    sha256 = load_released(module, weights, what="MedicalNet's ResNet-50")
    return TorchFeatures(
        name=NAME,
        fingerprint=sha256_json([NAME, sha256, list(layers), width]),
        dim=8 * width * ResNetBottleneck.expansion,
        comparable_with_paper=(tuple(layers), width) == (LAYERS, WIDTH),
        module=module.eval().requires_grad_(False).to(device),
        weights_sha256=sha256,
        device=device,
    )


def medicalnet_resnet(layers: Sequence[int] = LAYERS, width: int = WIDTH) -> ResNet:
    """Return the network without weights, ``(B, 1, *spatial)`` to ``(B, 32 width)``."""
    module = ResNet(
        ResNetBottleneck,
        list(layers),
        [width, 2 * width, 4 * width, 8 * width],
        n_input_channels=1,
        conv1_t_stride=2,
        feed_forward=False,
        shortcut_type="B",
        bias_downsample=False,
    )
    for stage, dilation in zip((module.layer3, module.layer4), _DILATIONS, strict=True):
        _dilate(stage, dilation)
    return module


def _dilate(stage: Iterable[ResNetBottleneck], dilation: int) -> None:
    """Make a stage keep its resolution and look further instead; the weights stay the same."""
    for block in stage:
        block.conv2.stride = (1, 1, 1)
        block.conv2.dilation = block.conv2.padding = (dilation,) * 3
        if block.downsample is not None:
            block.downsample[0].stride = (1, 1, 1)
