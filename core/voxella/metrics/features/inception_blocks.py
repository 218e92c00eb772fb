"""The blocks of Inception-v3 as the Fréchet Inception distance has them.

Szegedy et al. 2016 (arXiv 1512.00567) under torchvision's names. The network of Heusel et al. 2017
(arXiv 1706.08500) pools differently in two places, which its weights cannot show: an average leaves
out the padding around the image, and the very last block takes a maximum in the place of an average
(pytorch-fid 0.3.0, ``inception.py``).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BlockA", "BlockB", "BlockC", "BlockD", "BlockE", "Convolution", "max_pool"]

_EPS = 1e-3
_ROW, _COLUMN = (1, 7), (7, 1)
_SHORT_ROW, _SHORT_COLUMN = (1, 3), (3, 1)


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU.

    Args:
        inputs: Channels.
        outputs: Channels.
        kernel: Rows and columns, or both.
        stride: Of both axes.
        same: Padded so that stride 1 keeps the size; else not padded.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        *,
        same: bool = True,
    ) -> None:
        super().__init__()
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (rows // 2, columns // 2) if same else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (rows, columns), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inputs, H, W)`` to ``(B, outputs, H', W')``."""
        found: Tensor = self.bn(self.conv(x)).relu()
        return found


def max_pool(x: Tensor) -> Tensor:
    """Return maxima of 3 x 3 at every second place, without padding."""
    return functional.max_pool2d(x, 3, stride=2)


def _average(x: Tensor) -> Tensor:
    """Return means of 3 x 3; at an edge, of as many values as there are."""
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """Mixed_5b to 5d: ``inputs`` to 224 + ``pooled`` channels."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 64)
        self.branch5x5_1 = Convolution(inputs, 48)
        self.branch5x5_2 = Convolution(48, 64, 5)
        self.branch3x3dbl_1 = Convolution(inputs, 64)
        self.branch3x3dbl_2 = Convolution(64, 96, 3)
        self.branch3x3dbl_3 = Convolution(96, 96, 3)
        self.branch_pool = Convolution(inputs, pooled)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, 224 + pooled, H, W)``."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_average(x))], 1)


class BlockB(nn.Module):
    """Mixed_6a: 288 to 768 channels, half the size."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(inputs, 384, 3, 2, same=False)
        self.branch3x3dbl_1 = Convolution(inputs, 64)
        self.branch3x3dbl_2 = Convolution(64, 96, 3)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, 2, same=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, 480 + inputs, H / 2, W / 2)``."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, max_pool(x)], 1)


class BlockC(nn.Module):
    """Mixed_6b to 6e: 768 channels, ``inner`` between the long convolutions."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 192)
        self.branch7x7_1 = Convolution(inputs, inner)
        self.branch7x7_2 = Convolution(inner, inner, _ROW)
        self.branch7x7_3 = Convolution(inner, 192, _COLUMN)
        self.branch7x7dbl_1 = Convolution(inputs, inner)
        self.branch7x7dbl_2 = Convolution(inner, inner, _COLUMN)
        self.branch7x7dbl_3 = Convolution(inner, inner, _ROW)
        self.branch7x7dbl_4 = Convolution(inner, inner, _COLUMN)
        self.branch7x7dbl_5 = Convolution(inner, 192, _ROW)
        self.branch_pool = Convolution(inputs, 192)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, 768, H, W)``."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], 1)


class BlockD(nn.Module):
    """Mixed_7a: 768 to 1280 channels, half the size."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(inputs, 192)
        self.branch3x3_2 = Convolution(192, 320, 3, 2, same=False)
        self.branch7x7x3_1 = Convolution(inputs, 192)
        self.branch7x7x3_2 = Convolution(192, 192, _ROW)
        self.branch7x7x3_3 = Convolution(192, 192, _COLUMN)
        self.branch7x7x3_4 = Convolution(192, 192, 3, 2, same=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, 512 + inputs, H / 2, W / 2)``."""
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), max_pool(x)], 1)


class BlockE(nn.Module):
    """Mixed_7b and 7c: ``inputs`` to 2048 channels.

    Args:
        inputs: Channels.
        pooling: ``average``; ``maximum`` in the last block, likely a slip of the original network,
            which all published distances share.
    """

    def __init__(self, inputs: int, pooling: Literal["average", "maximum"]) -> None:
        super().__init__()
        self.pooling = pooling
        self.branch1x1 = Convolution(inputs, 320)
        self.branch3x3_1 = Convolution(inputs, 384)
        self.branch3x3_2a = Convolution(384, 384, _SHORT_ROW)
        self.branch3x3_2b = Convolution(384, 384, _SHORT_COLUMN)
        self.branch3x3dbl_1 = Convolution(inputs, 448)
        self.branch3x3dbl_2 = Convolution(448, 384, 3)
        self.branch3x3dbl_3a = Convolution(384, 384, _SHORT_ROW)
        self.branch3x3dbl_3b = Convolution(384, 384, _SHORT_COLUMN)
        self.branch_pool = Convolution(inputs, 192)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, 2048, H, W)``."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        average = self.pooling == "average"
        pooled = _average(x) if average else functional.max_pool2d(x, 3, stride=1, padding=1)
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        ]
        return torch.cat(parts, 1)
