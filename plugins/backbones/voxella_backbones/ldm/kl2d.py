"""The first stage with a Gaussian: KL-f4 and KL-f8."""

from __future__ import annotations

from pathlib import Path

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from voxella_backbones.ldm.first_stage import FirstStage, Sizes

__all__ = ["KL2d"]


class KL2d(FirstStage):
    """diffusers' ``AutoencoderKL``: the autoencoder of Stable Diffusion, and KL-f4.

    Args:
        sizes: Of the network.
        weights: Local weights file, or None.

    Raises:
        UserError: If the sizes do not fit one another, or the file does not fit them.
    """

    def __init__(self, sizes: Sizes, weights: Path | None) -> None:
        super().__init__(AutoencoderKL(**sizes.arguments("kl2d")), sizes)
        self.start_from(weights)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log sigma, deterministic in every mode.

        Args:
            images: ``(B, C, H, W)`` in [0, 1]; each axis a multiple of ``factor``.

        Returns:
            Two ``(B, latent_channels, H / factor, W / factor)``. Log sigma is half of the clamped
            log variance, so it lies in [-15, 10].

        Raises:
            UserError: If ``factor`` does not divide an axis.
        """
        mean, log_variance = self.encoded(images).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0) / 2

    def decode(self, latents: Tensor) -> Tensor:
        """Return images of ``latents`` ``(B, L, h, w)``; clipped to [0, 1] in evaluation mode."""
        return self.decoded(self.plain(latents))
