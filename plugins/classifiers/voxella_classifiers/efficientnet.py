"""EfficientNet-b0 in two or three dimensions (Tan & Le 2019, arXiv:1905.11946)."""

from __future__ import annotations

from monai.networks.nets import EfficientNetBN

from voxella.errors import UserError
from voxella.plugins.contracts import Classifier

__all__ = ["efficientnet_b0"]


def efficientnet_b0(spatial_dims: int, in_channels: int, num_classes: int) -> Classifier:
    """Return MONAI's EfficientNet-b0 with random weights: nothing is downloaded.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        num_classes: Number of classes.

    Raises:
        UserError: For any other number of dimensions.
    """
    if spatial_dims not in (2, 3):
        raise UserError(f"efficientnet: {spatial_dims} spatial dimensions", expected="2 or 3")
    network: Classifier = EfficientNetBN(
        "efficientnet-b0",
        pretrained=False,
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    return network
