"""Latents to patches and back, and where a patch lies. Any number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from voxella.errors import UserError

__all__ = ["patchify", "require_multiples", "sincos_positions", "unpatchify"]


def require_multiples(sides: Sequence[int], factor: int, *, of: str, remedy: str) -> None:
    """Refuse an image that an autoencoder cannot cut.

    Args:
        sides: Of the image, voxels.
        factor: Of the autoencoder.
        of: What the message calls it.
        remedy: What to change.

    Raises:
        UserError: If ``factor`` does not divide a side.
    """
    if any(size % factor for size in sides):
        raise UserError(
            f"an image of {tuple(sides)} voxels does not fit {of}",
            expected=f"multiples of {factor} along each axis",
            remedy=remedy,
        )


def patchify(x: Tensor, patch: int) -> Tensor:
    """Cut ``(B, C, *spatial)`` into ``(B, N, C * patch**n)``, patches in row-major order."""
    batch, channels, *spatial = x.shape
    axes = len(spatial)
    split = [part for size in spatial for part in (size // patch, patch)]
    x = x.reshape(batch, channels, *split)  # (B, C, g1, p, g2, p, ...)
    grid_axes = [2 + 2 * axis for axis in range(axes)]
    patch_axes = [3 + 2 * axis for axis in range(axes)]
    x = x.permute(0, *grid_axes, 1, *patch_axes)  # (B, g1, g2, ..., C, p, p, ...)
    return x.reshape(batch, -1, channels * patch**axes)


def unpatchify(tokens: Tensor, grid: Sequence[int], patch: int) -> Tensor:
    """Undo :func:`patchify`: ``(B, N, C * patch**n)`` to ``(B, C, *spatial)``.

    Args:
        tokens: Patches in row-major order.
        grid: Patches per axis.
        patch: Voxels per patch, along each axis.
    """
    axes = len(grid)
    channels = tokens.shape[-1] // patch**axes
    x = tokens.reshape(tokens.shape[0], *grid, channels, *[patch] * axes)
    pairs = [index for axis in range(axes) for index in (1 + axis, 2 + axes + axis)]
    x = x.permute(0, 1 + axes, *pairs)  # (B, C, g1, p, g2, p, ...)
    return x.reshape(tokens.shape[0], channels, *[size * patch for size in grid])


def sincos_positions(grid: Sequence[int], width: int) -> Tensor:
    """Return fixed sine and cosine embeddings of every patch's place, ``(1, N, width)``.

    Each axis has an equal share of the channels, half sines, half cosines, with the frequencies of
    Vaswani et al. 2017 (section 3.5); what does not divide evenly is zero.

    Args:
        grid: Patches per axis.
        width: Channels of a token, at least two per axis.
    """
    share = width // (2 * len(grid))
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(share, dtype=torch.float32) / share)
    places = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in grid], indexing="ij")
    parts: list[Tensor] = []
    for place in places:
        angles = place.reshape(-1, 1) * frequencies  # (N, share)
        parts += [angles.sin(), angles.cos()]
    table = torch.cat(parts, dim=1)
    return torch.nn.functional.pad(table, (0, width - table.shape[1])).unsqueeze(0)
