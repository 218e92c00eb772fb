"""What an autoencoder is trained on: L1, KL, LPIPS, the L1 between gradients and between spectra.

All are computed in float32, whatever precision the networks ran in.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from voxella.errors import UserError
from voxella.recipe.model import AutoencoderTraining

__all__ = [
    "autoencoder_losses",
    "gradient_l1",
    "kl_per_voxel",
    "log_spectral_l1",
]

# The amplitude of white noise with a standard deviation of a thousandth of the intensity range: a
# frequency below it holds nothing worth giving back, and its logarithm would outweigh the others.
_SPECTRAL_FLOOR = 1e-3
# What an autoencoder's own losses may not be called.
_NAMES = frozenset(
    {"total", "loss", "l1", "kl", "gradient", "spectral", "perceptual", "adversarial"}
    | {"discriminator", "equivariance", "adversarial_weight", "l1_per_case", "reconstruction"}
)


def autoencoder_losses(
    training: AutoencoderTraining,
    images: Tensor,
    reconstruction: Tensor,
    mean: Tensor,
    log_sigma: Tensor | None,
    own: Mapping[str, Tensor] | None = None,
    perceptual: Tensor | None = None,
    equivariance: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the weighted sum as ``loss`` and each term without its weight.

    Args:
        training: Names the weights; a term whose weight is 0 is left out, but for L1 and KL.
        images: ``(B, C, *spatial)``.
        reconstruction: Like ``images``.
        mean: ``(B, L, *spatial / factor)``.
        log_sigma: Like ``mean``; None where the latent is no distribution: there is no KL then.
        own: Scalars that the autoencoder brings itself, weighed by it.
        perceptual: LPIPS of the two, a scalar; None where the training has no such term.
        equivariance: The L1 of transformed latents, a scalar; None likewise.

    Raises:
        UserError: The autoencoder gives a loss of its own one of these names.
    """
    losses = {"l1": (reconstruction - images).abs().mean()}
    total = losses["l1"]
    if log_sigma is not None:
        losses["kl"] = kl_per_voxel(mean, log_sigma)
        total = total + training.kl_weight * losses["kl"]
    if training.gradient_weight > 0:
        losses["gradient"] = gradient_l1(reconstruction, images)
        total = total + training.gradient_weight * losses["gradient"]
    if training.spectral_weight > 0:
        losses["spectral"] = log_spectral_l1(reconstruction, images)
        total = total + training.spectral_weight * losses["spectral"]
    if perceptual is not None and training.perceptual is not None:
        losses["perceptual"] = perceptual
        total = total + training.perceptual.weight * perceptual
    if equivariance is not None and training.equivariance is not None:
        losses["equivariance"] = equivariance
        total = total + training.equivariance.weight * equivariance
    for name, value in (own or {}).items():
        if name in _NAMES:
            raise UserError(
                f"the autoencoder's training_losses names one {name}, which is the engine's",
                expected=f"any name but {', '.join(sorted(_NAMES))}",
            )
        losses[name] = value.float()
        total = total + losses[name]
    return {"loss": total, **losses}


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


def log_spectral_l1(images: Tensor, targets: Tensor) -> Tensor:
    """Return the L1 between log amplitudes of the Fourier transforms of two ``(B, C, *spatial)``.

    The log-magnitude term of Parallel WaveGAN (Yamamoto et al. 2020, arXiv:1910.11480), over whole
    patches instead of short windows of sound. The logarithm counts a frequency that was halved the
    same wherever it lies, so texture, whose amplitudes are small, is not traded for the coarse
    shape as in the L1. Not the squared difference of the complex spectra: by Parseval's theorem
    that is the mean squared error once more, unless it is weighted by frequency (as in the focal
    frequency loss, Jiang et al. 2021, arXiv:2012.12821).

    The value knows no phase: an image that is shifted around costs nothing, so this is an addition
    to the L1, never a replacement.
    """
    difference = _log_amplitude(images) - _log_amplitude(targets)
    return difference.abs().mean()


def _log_amplitude(images: Tensor) -> Tensor:
    # Orthonormal: white noise has the amplitude of its standard deviation at every patch size.
    spectrum = torch.fft.fftn(images, dim=tuple(range(2, images.ndim)), norm="ortho")
    return torch.log(spectrum.abs() + _SPECTRAL_FLOOR)
