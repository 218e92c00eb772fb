"""No autoencoder: diffusion on the pixels themselves."""

from __future__ import annotations

from torch import Tensor, nn

from voxella.errors import UserError

__all__ = ["Identity"]


class Identity(nn.Module):
    """The latent is the image, from [0, 1] to the [-1, 1] that the noise is of one size with.

    It has no parameters. The scale is that of Ho et al. 2020 (arXiv:2006.11239, section 3.3).

    Attributes:
        factor: 1.
        latent_channels: Channels of the image.

    Args:
        in_channels: Image channels.
        latent_channels: The same number.

    Raises:
        UserError: The numbers differ.
    """

    factor = 1

    def __init__(self, *, in_channels: int, latent_channels: int) -> None:
        super().__init__()
        if latent_channels != in_channels:
            raise UserError(
                f"identity: images of {in_channels} channels, latents of {latent_channels}; the "
                "latent is the image",
                remedy=f"--set latent.channels={in_channels}",
            )
        self.latent_channels = latent_channels

    def encode(self, images: Tensor) -> tuple[Tensor, None]:
        """Map ``(B, C, *spatial)`` in [0, 1] to [-1, 1]; no log sigma."""
        return 2 * images - 1, None

    def decode(self, latents: Tensor) -> Tensor:
        """Map ``(B, C, *spatial)`` back, clipped to [0, 1] in evaluation mode."""
        images = (latents + 1) / 2
        return images if self.training else images.clamp(0.0, 1.0)
