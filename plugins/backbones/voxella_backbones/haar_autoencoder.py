"""Lossless wavelet packing: voxels into channels by an orthonormal Haar transform, and back."""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor, nn

from voxella.errors import UserError
from voxella_backbones.patches import patchify, require_multiples, unpatchify

__all__ = ["Haar", "haar_matrix"]


class Haar(nn.Module):
    """Diffusion on wavelet coefficients: every coefficient is kept, so decoding loses nothing.

    Each level halves every axis and multiplies the channels by 2^axes (a wavelet packet: details
    are split as the mean is, so that all channels lie on one grid). Images go to [-1, 1] first, as
    for ``identity``; being orthonormal, the transform keeps sums of squares, and noise of unit
    variance stays noise of unit variance. Of images the mean's channel comes first in each pass.

    It has no parameters. Wavelets: Haar 1910; in diffusion Phung et al. 2023 (arXiv:2211.16152).

    Attributes:
        factor: ``2 ** levels``.
        latent_channels: ``in_channels * factor ** axes``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        latent_channels: As the attribute.
        levels: How often each axis is halved.

    Raises:
        UserError: ``latent_channels`` is another number.
    """

    matrix: Tensor

    def __init__(
        self, *, spatial_dims: int, in_channels: int, latent_channels: int, levels: int
    ) -> None:
        super().__init__()
        self.factor = 2**levels
        self.in_channels = in_channels
        expected = in_channels * self.factor**spatial_dims
        if levels < 1 or latent_channels != expected:
            raise UserError(
                f"haar: {levels} levels of images of {in_channels} channels, latents of "
                f"{latent_channels}; every coefficient is kept",
                remedy=f"--set latent.channels={expected}",
            )
        self.latent_channels = latent_channels
        # Derived from the sizes, so it is no part of a checkpoint.
        self.register_buffer("matrix", haar_matrix(levels, spatial_dims), persistent=False)

    def encode(self, images: Tensor) -> tuple[Tensor, None]:
        """Map ``(B, C, *spatial)`` in [0, 1] to ``(B, L, *spatial / factor)``; no log sigma.

        Raises:
            UserError: If ``factor`` does not divide an axis.
        """
        sides, remedy = images.shape[2:], "change prepare.size, or autoencoder.levels"
        require_multiples(sides, self.factor, of="haar", remedy=remedy)
        grid = tuple(size // self.factor for size in images.shape[2:])
        tokens = patchify(2 * images - 1, self.factor)  # (B, N, C * factor^axes)
        parts = tokens.reshape(*tokens.shape[:2], self.in_channels, -1) @ self.matrix.T.to(
            images.dtype
        )
        return parts.flatten(2).mT.reshape(len(images), -1, *grid), None

    def decode(self, latents: Tensor) -> Tensor:
        """Map ``(B, L, *spatial)`` back, clipped to [0, 1] in evaluation mode."""
        moved = latents.flatten(2).mT
        parts = moved.reshape(*moved.shape[:2], self.in_channels, -1)
        tokens = (parts @ self.matrix.to(latents.dtype)).flatten(2)
        images = (unpatchify(tokens, tuple(latents.shape[2:]), self.factor) + 1) / 2
        return images if self.training else images.clamp(0.0, 1.0)


def haar_matrix(levels: int, axes: int) -> Tensor:
    """Return the orthonormal transform of a patch, ``(P, P)`` with ``P = 2 ** (levels * axes)``.

    Rows are the packet's basis functions over a patch whose voxels run as :func:`patchify` lays
    them, the last axis fastest; the first row is the mean times the root of P.
    """
    step = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2.0)
    line = reduce(torch.kron, [step] * levels)
    return reduce(torch.kron, [line] * axes).float()
