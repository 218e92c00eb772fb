"""The first stage with a codebook: VQ-f4 and VQ-f8."""

from __future__ import annotations

from pathlib import Path

from diffusers.models.autoencoders.vq_model import VQModel
from torch import Tensor, nn

from voxella.errors import UserError
from voxella_backbones.ldm.codebook import Codebook, codebook_loss, straight_through
from voxella_backbones.ldm.first_stage import FirstStage, Sizes

__all__ = ["VQ"]


class VQ(FirstStage):
    """diffusers' ``VQModel``: the autoencoder of PathLDM and LDM-4, its codebook in the decoder.

    ``encode`` returns the continuous latent, before it is quantised: that is what the denoiser
    models. Quantising is the first thing ``decode`` does (Rombach et al. 2022, section 3.1).

    Args:
        sizes: Of the network; a code has as many channels as the latent.
        weights: Local weights file, or None.
        codes: Size of the codebook.
        codebook_weight: Of the codebook's loss among the training's.
        commitment: Weight, inside that loss, of the encoder's share.
        legacy_loss: Let ``commitment`` weigh the codebook's share instead, as the released code.

    Raises:
        UserError: If the sizes do not fit one another, or the file does not fit them.
    """

    def __init__(
        self,
        sizes: Sizes,
        weights: Path | None,
        *,
        codes: int,
        codebook_weight: float,
        commitment: float,
        legacy_loss: bool,
    ) -> None:
        arguments = sizes.arguments("vq")
        if codes < 2:
            raise UserError(f"vq: a codebook of {codes}", expected="2 codes or more")
        super().__init__(VQModel(**arguments, vq_embed_dim=sizes.latent_channels), sizes)
        # Under the name that the table has in diffusers and in released files.
        self.quantize = nn.ModuleDict({"embedding": Codebook(codes, sizes.latent_channels)})
        self.codebook_weight, self.commitment = codebook_weight, commitment
        self.legacy_loss = legacy_loss
        self.start_from(weights)

    def encode(self, images: Tensor) -> tuple[Tensor, None]:
        """Return the latent before it is quantised, and no log sigma.

        Args:
            images: ``(B, C, H, W)`` in [0, 1]; each axis a multiple of ``factor``.

        Returns:
            ``(B, latent_channels, H / factor, W / factor)``.

        Raises:
            UserError: If ``factor`` does not divide an axis.
        """
        return self.encoded(images), None

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images of the codes nearest to ``latents`` ``(B, L, h, w)``.

        In evaluation mode they are clipped to [0, 1]; in training mode not, and the gradient passes
        the quantiser as if it were not there (straight through).
        """
        latents = self.plain(latents)
        return self.decoded(straight_through(latents, self.quantize["embedding"](latents)))

    def training_losses(
        self, images: Tensor, mean: Tensor, reconstruction: Tensor
    ) -> dict[str, Tensor]:
        """Return the codebook's loss, weighed; see the contract of autoencoders."""
        loss = codebook_loss(
            mean,
            self.quantize["embedding"](mean),
            commitment=self.commitment,
            legacy=self.legacy_loss,
        )
        return {"codebook": self.codebook_weight * loss}
