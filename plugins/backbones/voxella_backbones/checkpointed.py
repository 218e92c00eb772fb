"""MONAI's U-Net blocks with a switch for gradient checkpointing.

A block's class is exchanged for a subclass of itself, so parameters, their names and the values
computed stay as they are, and the block can still be copied and pickled.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.blocks import SpatialAttentionBlock
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock, SpatialTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from voxella_backbones.added_attention import AddedAttention

__all__ = ["CheckpointedBlock", "make_checkpointable"]


class CheckpointedBlock(nn.Module):
    """Recompute the block's activations in the backward pass instead of keeping them."""

    checkpointing: bool = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the block's own signature
        """Run the block; with the switch on and gradients wanted, under a checkpoint."""
        if not (self.checkpointing and torch.is_grad_enabled()):
            return super().forward(*args, **kwargs)
        # The blocks draw no random numbers, so there is no generator state to put back.
        return checkpoint(
            super().forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs
        )


class _ResBlock(CheckpointedBlock, DiffusionUNetResnetBlock):  # type: ignore[misc]  # MONAI is untyped
    pass


class _SelfAttention(CheckpointedBlock, SpatialAttentionBlock):  # type: ignore[misc]  # MONAI is untyped
    pass


class _Transformer(CheckpointedBlock, SpatialTransformer):  # type: ignore[misc]  # MONAI is untyped
    pass


class _Added(CheckpointedBlock, AddedAttention):
    pass


_SUBCLASSES: dict[type[Any], type[CheckpointedBlock]] = {
    DiffusionUNetResnetBlock: _ResBlock,
    SpatialAttentionBlock: _SelfAttention,
    SpatialTransformer: _Transformer,
    AddedAttention: _Added,
}


def make_checkpointable(network: nn.Module) -> None:
    """Exchange the class of every residual and attention block in ``network``."""
    for module in network.modules():
        subclass = _SUBCLASSES.get(type(module))
        if subclass is not None:
            module.__class__ = subclass
