"""ResNet in two or three dimensions (He et al. 2016, arXiv:1512.03385), MONAI's."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import ResNet

from voxella.errors import UserError
from voxella.plugins.contracts import Classifier

__all__ = ["resnet"]

_LAYERS = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3]}


def resnet(
    spatial_dims: int, in_channels: int, num_classes: int, depth: int, widths: Sequence[int]
) -> Classifier:
    """Return MONAI's ResNet of basic blocks with random weights: nothing is downloaded.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        num_classes: Number of classes.
        depth: 10, 18 or 34 layers.
        widths: Channels of the four stages.

    Raises:
        UserError: For any other number of dimensions, depth or stages.
    """
    if spatial_dims not in (2, 3):
        raise UserError(f"resnet: {spatial_dims} spatial dimensions", expected="2 or 3")
    if depth not in _LAYERS or len(widths) != 4 or min(widths) < 1:
        raise UserError(
            f"resnet: depth {depth}, widths {list(widths)}",
            expected=f"depth {', '.join(map(str, _LAYERS))}; four widths of 1 or more",
        )
    network: Classifier = ResNet(
        "basic",
        _LAYERS[depth],
        list(widths),
        spatial_dims=spatial_dims,
        n_input_channels=in_channels,
        num_classes=num_classes,
        conv1_t_stride=2,  # as published; MONAI's default of 1 would take eight times the memory
        bias_downsample=False,
    )
    return network
