"""What an autoencoder is trained on: L1, KL, and L1 between image gradients."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gradient_l1", "kl_per_voxel"]


def kl_per_voxel(mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Return KL(N(mu, sigma^2) || N(0, 1)) in nats per latent voxel.

    ``0.5 * sum_channels(mu^2 + sigma^2 - 1 - log sigma^2)`` (Kingma and Welling 2014, appendix B),
    averaged over latent voxels and cases. Latent diffusion (Rombach et al. 2022) sums over voxels
    as well; the mean makes the weight independent of the patch size.

    Args:
        mean: ``(B, C, *spatial)``.
        log_sigma: ``(B, C, *spatial)``.
    """
    terms = mean.square() + torch.exp(2 * log_sigma) - 1 - 2 * log_sigma
    return 0.5 * terms.sum(dim=1).mean()


def gradient_l1(images: Tensor, targets: Tensor) -> Tensor:
    """Return the L1 between forward differences of two ``(B, C, *spatial)``, averaged over axes.

    It weighs edges, which the plain L1 lets blur.
    """
    axes = range(2, images.ndim)
    per_axis = [(images.diff(dim=a) - targets.diff(dim=a)).abs().mean() for a in axes]
    return torch.stack(per_axis).mean()
