"""Inception-v3 of pytorch-fid: the features of the Fréchet Inception distance, of pictures.

Heusel et al. 2017 (arXiv 1706.08500), in the port of their TensorFlow weights to PyTorch
(``pt_inception-2015-12-05-6726825d.pth``). PathLDM's distances are of these features.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from voxella.hashing import sha256_json
from voxella.metrics.features.inception_blocks import (
    BlockA,
    BlockB,
    BlockC,
    BlockD,
    BlockE,
    Convolution,
    max_pool,
)
from voxella.metrics.features.network import TorchFeatures
from voxella.metrics.features.weights import load_released

__all__ = ["Inception", "inception"]

NAME = "inception-v3-fid"
_SIDE = 299


def inception(weights: Path, *, device: torch.device | str = "cpu") -> TorchFeatures:
    """Return the network of pictures with features averaged over space, ``dim`` 2048.

    Args:
        weights: The port's file, names to tensors; its head of 1008 classes is left out.
        device: Where to compute.

    Raises:
        UserError: The file is missing or holds another network.
    """
    module = Inception()
    sha256 = load_released(module, weights, what="pytorch-fid's Inception-v3")
    return TorchFeatures(
        name=NAME,
        fingerprint=sha256_json([NAME, sha256]),
        dim=module.dim,
        comparable_with_paper=True,
        module=module.eval().requires_grad_(False).to(device),
        weights_sha256=sha256,
        plane="axial",
        pictures=True,
        channels=3,
        device=device,
    )


class Inception(nn.Module):
    """Pictures ``(B, 3, R, A)`` in [0, 1] to ``(B, 2048)``.

    The network is not the same to a picture that is turned, so it sees them as viewers show them:
    A upwards, R to the left.
    """

    dim = 2048

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, 2, same=False)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3, same=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = Convolution(64, 80, same=False)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, same=False)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, "average")
        self.Mixed_7c = BlockE(2048, "maximum")

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean over space of the last block's features."""
        upright = x.transpose(2, 3).flip(2, 3)  # (B, 3, rows, columns)
        # As in pytorch-fid: no anti-aliasing, and the corners' centres are not aligned.
        x = functional.interpolate(
            upright, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False
        )
        x = 2 * x - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = max_pool(x)
        x = max_pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean(dim=(2, 3))
