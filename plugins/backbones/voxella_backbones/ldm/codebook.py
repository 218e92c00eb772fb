"""Vector quantisation: the nearest code of each latent pixel, and the loss that moves the codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Codebook", "codebook_loss", "nearest_codes", "straight_through"]

# Distances held at a time; PathLDM's 64 x 64 latents against 8,192 codes are 33 million an image.
_DISTANCES = 2**25


class Codebook(nn.Module):
    """A table of codes, looked up by distance (Oord et al. 2017, arXiv:1711.00937, section 3.1).

    Its own module, so that ZeRO 3 gathers the table when it is called.

    Args:
        codes: Number of codes K; they start uniform within 1 / K, as released.
        width: Channels L of a code.
    """

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(codes, width))
        nn.init.uniform_(self.weight, -1.0 / codes, 1.0 / codes)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the code nearest to each pixel of ``(B, L, *spatial)``, in the same shape.

        Gradients reach the codes, not ``latents``.
        """
        places = nearest_codes(latents, self.weight)
        return nn.functional.embedding(places, self.weight).movedim(-1, 1)


def nearest_codes(latents: Tensor, codes: Tensor) -> Tensor:
    """Return the index of the code that is nearest to each pixel, in float32 whatever the dtypes.

    Args:
        latents: ``(B, L, *spatial)``.
        codes: ``(K, L)``.

    Returns:
        ``(B, *spatial)`` int64.
    """
    with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
        pixels = latents.movedim(1, -1)
        flat, table = pixels.reshape(-1, codes.shape[1]).float(), codes.float()
        # |z - e|^2 without |z|^2, which is the same for every code.
        squares, doubled = table.square().sum(dim=1), 2 * table.T
        rows = max(1, _DISTANCES // len(table))
        found = [(squares - part @ doubled).argmin(dim=1) for part in torch.split(flat, rows)]
        return torch.cat(found).reshape(pixels.shape[:-1])


def straight_through(latents: Tensor, chosen: Tensor) -> Tensor:
    """Return ``chosen``, with the gradient of ``latents`` (Oord et al. 2017, section 3.2)."""
    chosen = chosen.detach().to(latents.dtype)
    return latents + (chosen - latents).detach() if latents.requires_grad else chosen


def codebook_loss(latents: Tensor, chosen: Tensor, *, commitment: float, legacy: bool) -> Tensor:
    """Return the mean of ``|sg(z) - e|^2 + commitment |z - sg(e)|^2`` (Oord et al., equation 3).

    Args:
        latents: ``(B, L, *spatial)``, z.
        chosen: Of the same shape, e: the codes nearest to z.
        commitment: Weight of the second term, which holds the encoder to the codes.
        legacy: Let ``commitment`` weigh the first term instead, as in taming-transformers and what
            was trained with it.
    """
    latents, chosen = latents.float(), chosen.float()
    moves_codes = (chosen - latents.detach()).square().mean()
    moves_encoder = (chosen.detach() - latents).square().mean()
    if legacy:
        return moves_encoder + commitment * moves_codes
    return moves_codes + commitment * moves_encoder
