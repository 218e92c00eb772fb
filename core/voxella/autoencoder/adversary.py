"""A patch discriminator that an autoencoder is trained against, and its own optimizer's steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from voxella.autoencoder.adversarial_losses import ADVERSARIAL_LOSSES
from voxella.errors import UserError
from voxella.ranks import Ranks
from voxella.recipe.training import Adversarial

if TYPE_CHECKING:
    from voxella.autoencoder.patches import PatchBatch

__all__ = ["Adversary", "AdversaryTraining", "check_edges"]


class Adversary:
    """The discriminator, its optimizer, and the two losses between it and the autoencoder.

    ``PatchDiscriminator`` (Wang et al. 2018, arXiv:1711.11585), in one of two published forms:

    - Instance norms, which know no other case of the batch, and least squares (Mao et al. 2017,
      arXiv:1611.04076), as MAISI's autoencoder is trained (Guo et al. 2024, arXiv:2409.11169).
    - Batch norms and hinge losses (Lim and Ye 2017, arXiv:1705.02894), as the first stages of
      latent diffusion are trained (Esser et al. 2021, arXiv:2012.09841). Originals and
      reconstructions are batches of their own; statistics are those of a process's own batch.

    Args:
        settings: The recipe's ``adversarial`` block.
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        lr: Its learning rate.
        betas: Adam's.
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
        betas: tuple[float, float] = (0.9, 0.999),
        seed: int,
        device: torch.device,
    ) -> None:
        # Here, because MONAI takes seconds to import and most recipes have no discriminator.
        from monai.networks.nets import PatchDiscriminator

        self.settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PatchDiscriminator(
                spatial_dims=spatial_dims,
                in_channels=in_channels,
                channels=settings.channels,
                num_layers_d=settings.layers,
                norm=settings.norm.upper(),
            )
        self.network = cast("nn.Module", network).to(device).train()
        self._losses = ADVERSARIAL_LOSSES[settings.loss]
        # fused and no decay: like the autoencoder's.
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=lr, betas=betas, weight_decay=0.0, fused=True
        )

    def active(self, step: int) -> bool:
        """Return whether its turn has come at a step (from 0)."""
        return step >= self.settings.from_step

    def generator_loss(self, reconstruction: Tensor) -> Tensor:
        """Return how far ``(B, C, *spatial)`` are from being taken for originals, unweighted."""
        self.network.requires_grad_(requires_grad=False)
        judged = self._judge(reconstruction)
        self.network.requires_grad_(requires_grad=True)
        return self._losses.generator(judged)

    def discriminator_loss(self, images: Tensor, reconstruction: Tensor) -> Tensor:
        """Return how badly originals and reconstructions are told apart; 0 is perfectly."""
        fake, real = self._judge(reconstruction.detach()), self._judge(images)
        return 0.5 * (self._losses.fake(fake) + self._losses.real(real))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _judge(self, images: Tensor) -> Tensor:
        """Return the logits of every patch, in float32."""
        judged: Tensor = self.network(self._losses.seen(images))[-1]
        return judged.float()


class AdversaryTraining:
    """The discriminator's side of the training: gradients over micro batches, then a step.

    A plain optimizer and not a second DeepSpeed engine: the network has a few million weights, so
    that sharding it saves nothing, and one process with two engines would share the globals that
    DeepSpeed keeps per process. The network is whole on every process; its gradients are averaged,
    so that every process takes the same step from the same weights.

    Args:
        adversary: The network and its losses.
        ranks: This process.
        rate: Returns the learning rate of a step (from 0).
        clip_norm: Largest gradient norm; 0: any.
        autocast: Makes the context that networks compute in.
    """

    def __init__(
        self,
        adversary: Adversary,
        ranks: Ranks,
        *,
        rate: Callable[[int], float],
        clip_norm: float,
        autocast: Callable[[], torch.autocast],
    ) -> None:
        self.adversary, self.ranks, self.rate = adversary, ranks, rate
        self.clip_norm, self.autocast = clip_norm, autocast
        adversary.optimizer.zero_grad(set_to_none=True)

    def backward(
        self, batch: PatchBatch, losses: Mapping[str, Tensor], *, micro_batches: int
    ) -> dict[str, Tensor]:
        """Add one micro batch's gradients; return the loss by name, nothing before its turn."""
        if not self.adversary.active(batch.step):
            return {}
        with self.autocast():
            told = self.adversary.discriminator_loss(batch.images, losses["reconstruction"])
        share = told * (batch.weight / micro_batches)
        share.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return {"discriminator": told.detach()}

    def step(self, step: int) -> None:
        """Average the gradients over processes and take optimizer step ``step`` (from 1)."""
        if not self.adversary.active(step - 1):
            return
        optimizer, network = self.adversary.optimizer, self.adversary.network
        if self.ranks.world > 1:
            for parameter in network.parameters():
                if parameter.grad is not None:
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.ranks.world
        for group in optimizer.param_groups:
            group["lr"] = self.rate(step - 1)
        if self.clip_norm:
            nn.utils.clip_grad_norm_(network.parameters(), self.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return network and optimizer; the same on every process."""
        return self.adversary.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.adversary.load_state_dict(state)


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
            expected=f"edges of at least 3 * 2^layers = {shortest} voxels",
            remedy="--set autoencoder_training.adversarial.layers=N, or larger patches",
        )
