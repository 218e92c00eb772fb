"""A patch discriminator that an autoencoder is trained against; MONAI's network and loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from voxella.errors import UserError
from voxella.recipe.inputs import Adversarial

__all__ = ["Adversary", "check_edges"]


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
