"""Latents that turn and shrink with their image (EQ-VAE, Kouzelis et al. 2025, arXiv:2502.09509).

A reconstruction loss alone lets a latent of the turned image have nothing to do with the turned
latent, and the diffusion model has to learn that many more. Their equation 4 asks the decoder for
the turned image when it is given the turned latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from voxella.philox import keyed_generator
from voxella.recipe.training import Equivariance

__all__ = ["Transform", "draw_transform", "equivariance_l1"]


@dataclass(frozen=True)
class Transform:
    """What is done to an image and to its latent alike.

    Attributes:
        size: Latent voxels along each axis after shrinking.
        plane: The two axes that are turned, from 0 for the first spatial one.
        turns: How often by 90 degrees.
    """

    size: tuple[int, ...]
    plane: tuple[int, int] = (0, 1)
    turns: int = 0

    def apply(self, images: Tensor, factor: int = 1) -> Tensor:
        """Return ``(B, C, *spatial)`` shrunk, then turned.

        Args:
            images: Images, or their latents.
            factor: Voxels of it for each latent voxel along an axis: 1 for latents themselves.
        """
        # Means over boxes: without aliasing, in two dimensions as in three.
        size = [edge * factor for edge in self.size]
        small = functional.interpolate(images, size=size, mode="area")
        first, second = self.plane
        return small.rot90(self.turns, (2 + first, 2 + second))


def draw_transform(
    settings: Equivariance, size: Sequence[int], *, seed: int, step: int
) -> Transform:
    """Return the transform of one step, the same for all of its cases and on every process.

    Args:
        settings: ``autoencoder_training.equivariance``.
        size: Latent voxels along each axis.
        seed: The recipe's.
        step: Optimizer steps done.
    """
    generator = keyed_generator(seed, "equivariance", "", step)
    share = settings.scale + (1 - settings.scale) * float(generator.random())
    small = tuple(max(1, math.floor(edge * share + 0.5)) for edge in size)
    # In a plane of unequal edges half the turns are none of the grid.
    planes = [
        (a, b) for a in range(len(size)) for b in range(a + 1, len(size)) if size[a] == size[b]
    ]
    if not settings.turns or not planes:
        return Transform(small)
    plane = planes[int(generator.integers(len(planes)))]
    return Transform(small, plane, int(generator.integers(4)))


def equivariance_l1(
    decode: Callable[[Tensor], Tensor], images: Tensor, latents: Tensor, transform: Transform
) -> Tensor:
    """Return the L1 between the transformed image and what the transformed latent decodes to.

    Args:
        decode: The autoencoder's.
        images: ``(B, C, *spatial)``.
        latents: ``(B, L, *spatial / factor)``.
        transform: Of both.
    """
    factor = images.shape[2] // latents.shape[2]
    wanted = transform.apply(images, factor)
    made = decode(transform.apply(latents)).float()
    return torch.as_tensor((made - wanted).abs().mean())
