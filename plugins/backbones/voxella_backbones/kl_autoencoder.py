"""A small KL autoencoder, 2D or 3D, quick enough to be trained on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai.networks.nets import AutoencoderKL

from voxella.errors import UserError
from voxella_backbones.latent_contract import LatentContract, check_channels

__all__ = ["KLAutoencoder"]


class KLAutoencoder(LatentContract, AutoencoderKL):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's ``AutoencoderKL`` without attention, whose cost grows with the square of the voxels.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        latent_channels: Channels of the latent.
        weights: Local weights file, or None.
        channels: Width of each level.
        res_blocks: Residual blocks per level.
        norm_groups: Groups of the group norms.

    Raises:
        UserError: If the sizes do not fit one another or the file does not fit them.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        latent_channels: int,
        weights: Path | None,
        channels: Sequence[int],
        res_blocks: int,
        norm_groups: int,
    ) -> None:
        if spatial_dims not in (2, 3):
            raise UserError(f"kl: {spatial_dims} spatial dimensions", expected="2 or 3")
        check_channels("kl", channels, norm_groups)
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=in_channels,
            num_res_blocks=res_blocks,
            channels=tuple(channels),
            attention_levels=(False,) * len(channels),
            latent_channels=latent_channels,
            norm_num_groups=norm_groups,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        self.finish(channels, weights)
