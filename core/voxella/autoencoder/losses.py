"""What an autoencoder is trained on: L1, KL, and the L1 between gradients and between spectra.

All are computed in float32, whatever precision the networks ran in.

A patch discriminator that an autoencoder is trained against; MONAI's network and loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from voxella.errors import UserError
from voxella.recipe.inputs import Adversarial
from voxella.recipe.model import AutoencoderTraining

__all__ = [
    "Adversary",
    "autoencoder_losses",
    "check_edges",
    "gradient_l1",
    "kl_per_voxel",
    "log_spectral_l1",
]

# The amplitude of white noise with a standard deviation of a thousandth of the intensity range: a
# frequency below it holds nothing worth giving back, and its logarithm would outweigh the others.
_SPECTRAL_FLOOR = 1e-3


def autoencoder_losses(
    training: AutoencoderTraining,
    images: Tensor,
    given_back: Tensor,
    mean: Tensor,
    log_sigma: Tensor,
) -> dict[str, Tensor]:
    """Return the weighted sum as ``loss`` and each term without its weight.

    Args:
        training: Names the weights; a term whose weight is 0 is left out, but for L1 and KL.
        images: ``(B, C, *spatial)``.
        given_back: Like ``images``.
        mean: ``(B, L, *spatial / factor)``.
        log_sigma: Like ``mean``.
    """
    losses = {"l1": (given_back - images).abs().mean(), "kl": kl_per_voxel(mean, log_sigma)}
    total = losses["l1"] + training.kl_weight * losses["kl"]
    if training.gradient_weight > 0:
        losses["gradient"] = gradient_l1(given_back, images)
        total = total + training.gradient_weight * losses["gradient"]
    if training.spectral_weight > 0:
        losses["spectral"] = log_spectral_l1(given_back, images)
        total = total + training.spectral_weight * losses["spectral"]
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


class Adversary:
    """The discriminator, its optimizer, and the two losses between it and the autoencoder.

    ``PatchDiscriminator`` (Wang et al. 2018, arXiv:1711.11585) with instance norms, which know no
    other case of the batch, and least squares (Mao et al. 2017, arXiv:1611.04076), as MAISI's
    autoencoder is trained (Guo et al. 2024, arXiv:2409.11169). There is no perceptual term beside
    it, for that would need weights of a network trained on other images.

    Args:
        settings: The recipe's ``adversarial`` block.
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        lr: Its learning rate.
        seed: Decides the initial weights.
        device: Where to compute.
    """

    def __init__(
        self,
        settings: Adversarial,
        *,
        spatial_dims: int,
        in_channels: int,
        lr: float,
        seed: int,
        device: torch.device,
    ) -> None:
        # Here, because MONAI takes seconds to import and most recipes have no discriminator.
        from monai.losses import PatchAdversarialLoss
        from monai.networks.nets import PatchDiscriminator

        self.settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PatchDiscriminator(
                spatial_dims=spatial_dims,
                in_channels=in_channels,
                channels=settings.channels,
                num_layers_d=settings.layers,
                norm="INSTANCE",
            )
        self.network = cast("nn.Module", network).to(device).train()
        self._criterion = PatchAdversarialLoss(criterion="least_squares")
        # fused and no decay: like the autoencoder's.
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=lr, weight_decay=0.0, fused=True
        )

    def generator_loss(self, given_back: Tensor) -> Tensor:
        """Return how far ``(B, C, *spatial)`` are from being taken for originals, unweighted."""
        self.network.requires_grad_(requires_grad=False)
        judged = self.network(given_back)[-1]
        self.network.requires_grad_(requires_grad=True)
        return self._loss(judged, real=True, own=False)

    def discriminator_loss(self, images: Tensor, given_back: Tensor) -> Tensor:
        """Return how badly originals and reconstructions are told apart; 0 is perfectly."""
        fake = self._loss(self.network(given_back.detach())[-1], real=False, own=True)
        real = self._loss(self.network(images)[-1], real=True, own=True)
        return 0.5 * (fake + real)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _loss(self, judged: Tensor, *, real: bool, own: bool) -> Tensor:
        loss: Tensor = self._criterion(judged.float(), target_is_real=real, for_discriminator=own)
        return loss


def check_edges(settings: Adversarial, size: Sequence[int]) -> None:
    """Refuse patches that the discriminator's strides would reduce to nothing.

    ``layers`` convolutions halve the grid, and two more take one voxel each; one has to be left.

    Raises:
        UserError: An edge of ``size`` is too short.
    """
    shortest = 3 * 2**settings.layers
    if any(edge < shortest for edge in size):
        raise UserError(
            f"autoencoder_training.adversarial: {settings.layers} layers cannot judge patches of "
            f"{list(size)} voxels",
            legal=f"edges of at least 3 * 2^layers = {shortest} voxels",
            remedy="--set autoencoder_training.adversarial.layers=N, or larger patches",
        )
