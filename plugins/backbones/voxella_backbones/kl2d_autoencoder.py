"""The first stage with a Gaussian: KL-f4 and KL-f8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from voxella_backbones.first_stage import FirstStage, block_names, checked_attention

__all__ = ["KL2d"]


class KL2d(FirstStage):
    """diffusers' ``AutoencoderKL``: the autoencoder of Stable Diffusion, and KL-f4.

    Args:
        spatial_dims: 2.
        in_channels: Image channels.
        latent_channels: Channels of the latent.
        weights: Local weights file, or None.
        channels: Width of each level.
        attention: Whether a level has attention; the middle has always.
        res_blocks: Residual blocks per level; the decoder has one more.
        norm_groups: Groups of the group norms.

    Raises:
        UserError: If the sizes do not fit one another, or the file does not fit them.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        latent_channels: int,
        weights: Path | None,
        channels: Sequence[int],
        attention: Sequence[bool] | None,
        res_blocks: int,
        norm_groups: int,
    ) -> None:
        attends = checked_attention("kl2d", spatial_dims, channels, attention, norm_groups)
        network = AutoencoderKL(
            in_channels=in_channels,
            out_channels=in_channels,
            down_block_types=block_names("DownEncoderBlock2D", attends),
            up_block_types=block_names("UpDecoderBlock2D", attends[::-1]),
            block_out_channels=tuple(channels),
            layers_per_block=res_blocks,
            latent_channels=latent_channels,
            norm_num_groups=norm_groups,
        )
        super().__init__(network, len(channels), latent_channels)
        self.start_from(weights, len(channels))

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
