"""The parts of latent diffusion's U-Net without context that diffusers would build otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D
from torch import nn

__all__ = ["give_heads", "plain_middle"]

_EPS = 1e-5


def plain_middle(channels: Sequence[int], head_width: int, norm_groups: int) -> nn.Module:
    """Return the bottom of a U-Net without context; diffusers would give it no attention.

    Args:
        channels: Width of each level.
        head_width: Channels of an attention head.
        norm_groups: Groups of the group norms.
    """
    middle: nn.Module = UNetMidBlock2D(
        in_channels=channels[-1],
        temb_channels=4 * channels[0],
        resnet_eps=_EPS,
        resnet_groups=norm_groups,
        attention_head_dim=head_width,
    )
    return middle


def give_heads(blocks: nn.ModuleList, heads: Sequence[int]) -> None:
    """Give each level on the way up the heads of its own width.

    diffusers takes the widths of the way down, in that order: projections of the wrong size where
    they do not divide a level's channels, and of none where they are wider.

    Args:
        blocks: On the way up, the deepest first.
        heads: Of each.
    """
    for block, number in zip(blocks, heads, strict=True):
        attentions = getattr(block, "attentions", [])
        for place, old in enumerate(attentions):
            if old.inner_dim != old.query_dim:
                attentions[place] = _attention(old, number)
            else:
                old.heads, old.scale = number, (old.inner_dim // number) ** -0.5


def _attention(old: Attention, heads: int) -> Attention:
    """Return an attention block as diffusers' ``AttnUpBlock2D`` builds its own."""
    return Attention(
        old.query_dim,
        heads=heads,
        dim_head=old.query_dim // heads,
        rescale_output_factor=old.rescale_output_factor,
        eps=_EPS,
        norm_num_groups=old.group_norm.num_groups,
        residual_connection=True,
        bias=True,
        upcast_softmax=True,
        _from_deprecated_attn_block=True,
    )
