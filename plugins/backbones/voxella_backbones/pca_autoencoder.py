"""Principal components of patches: a linear autoencoder that is fitted in closed form."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from voxella.errors import UserError
from voxella_backbones.patches import patchify, require_multiples, unpatchify

__all__ = ["Pca"]


class Pca(nn.Module):
    """The strongest principal components of patches of ``factor`` voxels an axis.

    Of all linear autoencoders of as many channels it loses least (Eckart and Young 1936); with as
    many as a patch has voxels it loses nothing. Components are divided by ``std ** whiten``: 0
    keeps their sizes, so that the first ones make up most of the loss and are decided at high
    noise; 1 makes all of one size.

    Attributes:
        factor: Voxels of the image per voxel of the latent, along each axis.
        latent_channels: Components kept.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        latent_channels: Components, at most the values of a patch.
        factor: Edge of a patch, voxels.
        whiten: Power of the standard deviation that components are divided by, 0 to 1.

    Raises:
        UserError: A patch has fewer values than components are asked for, or ``whiten`` lies
            outside 0 to 1.
    """

    mean: Tensor
    basis: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        latent_channels: int,
        factor: int,
        whiten: float,
    ) -> None:
        super().__init__()
        values = in_channels * factor**spatial_dims
        if factor < 1 or latent_channels > values or not 0 <= whiten <= 1:
            raise UserError(
                f"pca: {latent_channels} components of patches of {values} values, "
                f"whiten {whiten:g}",
                expected="at most as many components as values, and whiten from 0 to 1",
                remedy="change latent.channels, or the recipe's autoencoder block",
            )
        self.factor = factor
        self.latent_channels = latent_channels
        self.in_channels = in_channels
        self.whiten = whiten
        # Trained weights of it in closed form: parameters would be fitted by gradients.
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("basis", torch.zeros(latent_channels, values))
        self.register_buffer("std", torch.ones(latent_channels))

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Find mean, components and their standard deviations, in float64 and one pass.

        A component's sign is arbitrary: its largest entry is made positive.

        Args:
            batches: Images ``(B, C, *spatial)`` in [0, 1].

        Raises:
            UserError: ``factor`` does not divide an axis.
        """
        count, total, squares = 0, torch.zeros(()).double(), torch.zeros(()).double()
        for images in batches:
            patches = self._patches(images.double()).flatten(0, 1)
            count += len(patches)
            total = total + patches.sum(0)
            squares = squares + patches.T @ patches
        mean = total / count
        variances, vectors = torch.linalg.eigh(squares / count - torch.outer(mean, mean))
        kept = vectors.flip(1)[:, : self.latent_channels].T
        largest = kept.gather(1, kept.abs().argmax(1, keepdim=True))
        self.mean.copy_(mean)
        self.basis.copy_(kept * largest.sign())
        strongest = variances.flip(0)[: self.latent_channels]
        self.std.copy_(strongest.clamp_min(1e-12).sqrt())

    def encode(self, images: Tensor) -> tuple[Tensor, None]:
        """Map ``(B, C, *spatial)`` in [0, 1] to ``(B, L, *spatial / factor)``; no log sigma.

        Raises:
            UserError: If ``factor`` does not divide an axis.
        """
        grid = tuple(size // self.factor for size in images.shape[2:])
        tokens = (self._patches(images) - self.mean) @ self.basis.T / self.std**self.whiten
        return tokens.mT.reshape(len(images), -1, *grid), None

    def decode(self, latents: Tensor) -> Tensor:
        """Map ``(B, L, *spatial)`` back, clipped to [0, 1] in evaluation mode."""
        tokens = (latents.flatten(2).mT * self.std**self.whiten) @ self.basis + self.mean
        images = (unpatchify(tokens, tuple(latents.shape[2:]), self.factor) + 1) / 2
        return images if self.training else images.clamp(0.0, 1.0)

    def _patches(self, images: Tensor) -> Tensor:
        """Return patches ``(B, N, values)`` of images brought to [-1, 1]."""
        sides, remedy = images.shape[2:], "change prepare.size, or autoencoder.factor"
        require_multiples(sides, self.factor, of="pca", remedy=remedy)
        return patchify(2 * images - 1, self.factor)
