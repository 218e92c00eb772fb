"""A small convolutional classifier with global pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from voxella.errors import UserError

__all__ = ["SmallCNN"]

_MAX_GROUPS = 8


class SmallCNN(nn.Module):
    """Strided convolutions, group norm and SiLU; mean over the grid; one linear layer.

    Group norm, for the batches are small. Works on any image size.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        num_classes: Number of classes.
        channels: Width of each stage; every stage halves the grid (rounding up).

    Raises:
        UserError: If there is no stage, or another number of dimensions.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, num_classes: int, channels: Sequence[int]
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3) or not channels:
            raise UserError(
                f"cnn: {spatial_dims} spatial dimensions, channels {list(channels)}",
                expected="2 or 3 dimensions, one width or more",
            )
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        stages: list[nn.Module] = []
        for before, after in zip([in_channels, *channels], channels, strict=False):
            groups = math.gcd(after, _MAX_GROUPS)
            stages += [
                convolution(before, after, kernel_size=3, stride=2, padding=1),
                nn.GroupNorm(groups, after),
                nn.SiLU(),
            ]
        self.features = nn.Sequential(*stages)
        self.head = nn.Linear(channels[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(B, C, *spatial)`` to logits ``(B, num_classes)``."""
        pooled = self.features(images).flatten(2).mean(dim=2)  # (B, channels[-1])
        logits: Tensor = self.head(pooled)
        return logits
