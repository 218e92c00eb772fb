"""What both KL autoencoders have in common: encode, decode, and weights from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from voxella.errors import UserError
from voxella_backbones.patches import require_multiples
from voxella_backbones.weights import Convert, load_weights

__all__ = ["LatentContract", "check_channels"]


class LatentContract(nn.Module):
    """Mixed into MONAI's ``AutoencoderKL`` classes (Rombach et al. 2022, arXiv:2112.10752).

    MONAI returns a mean and sigma and samples in evaluation mode too; here ``encode`` returns mean
    and log sigma and never draws, so that a cached latent holds no noise.

    Attributes:
        factor: Voxels of the image per voxel of the latent, along each axis.
        latent_channels: Channels of the latent.
        weights_sha256: Checksum of the file the weights came from; None while there is none.
    """

    factor: int
    latent_channels: int
    weights_sha256: str | None
    encoder: nn.Module
    decoder: nn.Module
    quant_conv_mu: nn.Module
    quant_conv_log_sigma: nn.Module
    post_quant_conv: nn.Module

    def finish(
        self,
        channels: Sequence[int],
        weights: Path | None,
        convert: Convert | None = None,
    ) -> None:
        """Set what the contract promises, once the network stands.

        Args:
            channels: Width of each level.
            weights: File to load, or None.
            convert: From another release's parameter names, see :func:`load_weights`.
        """
        self.factor = int(2 ** (len(channels) - 1))
        self.weights_sha256 = None if weights is None else load_weights(self, weights, convert)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log sigma, deterministic in every mode.

        Args:
            images: ``(B, C, *spatial)`` in [0, 1]; each axis a multiple of ``factor``.

        Returns:
            Two ``(B, latent_channels, *spatial / factor)``. Log sigma is half of MONAI's clamped
            log variance, so it lies in [-15, 10].

        Raises:
            UserError: If ``factor`` does not divide an axis.
        """
        sides, remedy = images.shape[2:], "change prepare.size"
        require_multiples(sides, self.factor, of="the autoencoder", remedy=remedy)
        h = self.encoder(self._plain(images))
        mean: Tensor = self.quant_conv_mu(h)
        log_variance: Tensor = self.quant_conv_log_sigma(h).clamp(-30.0, 20.0)
        return mean, log_variance / 2

    def decode(self, latents: Tensor) -> Tensor:
        """Return images.

        In evaluation mode they are clipped to [0, 1]; in training mode not, for a clipped voxel
        would have no gradient.

        Args:
            latents: ``(B, latent_channels, *spatial)``, unscaled.

        Returns:
            ``(B, C, *spatial * factor)``.
        """
        images: Tensor = self.decoder(self.post_quant_conv(self._plain(latents)))
        return images if self.training else images.clamp(0.0, 1.0)

    def _plain(self, x: Tensor) -> Tensor:
        """Strip MONAI's MetaTensor, which slows every operation, and match the parameters."""
        like = next(self.parameters())
        return x.as_subclass(torch.Tensor).to(like.dtype)


def check_channels(name: str, channels: Sequence[int], norm_groups: int) -> None:
    """Refuse level widths that the group norms cannot divide.

    Raises:
        UserError: Naming every such width.
    """
    wrong = [width for width in channels if width % norm_groups]
    if wrong or not channels:
        raise UserError(
            f"{name}: channels {list(channels)} with norm_groups {norm_groups}",
            expected=f"one or more multiples of {norm_groups}",
            remedy="change the recipe's autoencoder block",
        )
