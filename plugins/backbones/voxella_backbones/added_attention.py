"""The attention of MONAI's U-Nets: ours in its place, and cross-attention added behind it."""

from __future__ import annotations

from monai.networks.blocks import CrossAttentionBlock, SABlock, SpatialAttentionBlock
from monai.networks.nets.diffusion_model_unet import SpatialTransformer
from torch import Tensor, nn

from voxella_backbones.attention import PackedAttention

__all__ = ["AddedAttention", "add_cross_attention", "replace_attention"]


class AddedAttention(SpatialAttentionBlock):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's self-attention block under its own names, then cross-attention to a context.

    ``x = self_attention(x)``, then ``x + out_proj(attend(norm(x), context))``. The last projection
    starts at zero, so the block starts as the one without a context, whatever that has learnt; as
    the gated layers of Flamingo do (Alayrac et al. 2022, arXiv:2204.14198, section 2.2), with a
    projection that starts at zero in the place of a gate that does.

    Args:
        spatial_dims: 2 or 3.
        channels: Of the feature map.
        heads: Attention heads of both attentions.
        context_dim: Width of the context tokens.
        norm_groups: Groups of the self-attention's norm.
        norm_eps: Of that norm.
        include_fc: Whether the self-attention has an output projection.
        flash: Of the cross-attention, see :func:`voxella_backbones.attention.attend`.
        upcast: The same.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        heads: int,
        context_dim: int,
        *,
        norm_groups: int,
        norm_eps: float,
        include_fc: bool,
        flash: bool,
        upcast: bool,
    ) -> None:
        super().__init__(
            spatial_dims=spatial_dims,
            num_channels=channels,
            num_head_channels=channels // heads,
            norm_num_groups=norm_groups,
            norm_eps=norm_eps,
            include_fc=include_fc,
        )
        self.added_norm = nn.LayerNorm(channels)
        self.added = PackedAttention(
            nn.Linear(channels, channels),
            nn.Linear(context_dim, channels),
            nn.Linear(context_dim, channels),
            nn.Linear(channels, channels),
            heads,
            context_width=context_dim,
            flash=flash,
            upcast=upcast,
        )
        for parameter in self.added.out_proj.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map ``(B, C, *spatial)`` to the same shape, told of ``context`` ``(B, T, K)``."""
        x = super().forward(x)
        tokens = x.flatten(2).transpose(1, 2)  # (B, voxels, C)
        told = self.added(self.added_norm(tokens), context)
        out: Tensor = x + told.transpose(1, 2).reshape(x.shape)
        return out


def add_cross_attention(network: nn.Module, context_dim: int, *, flash: bool, upcast: bool) -> None:
    """Put an :class:`AddedAttention` in the place of every transformer of a U-Net with a context.

    The blocks around hand the context on as they do to a transformer.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SpatialTransformer):
                own = child.transformer_blocks[0].attn1
                added = AddedAttention(
                    child.spatial_dims,
                    child.norm.num_channels,
                    own.num_heads,
                    context_dim,
                    norm_groups=child.norm.num_groups,
                    norm_eps=child.norm.eps,
                    include_fc=not isinstance(own.out_proj, nn.Identity),
                    flash=flash,
                    upcast=upcast,
                )
                setattr(parent, name, added)


def replace_attention(network: nn.Module, *, flash: bool, upcast: bool) -> None:
    """Let our attention take over the projections of MONAI's, under their own names."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SABlock | CrossAttentionBlock):
                ours = PackedAttention(
                    child.to_q,
                    child.to_k,
                    child.to_v,
                    child.out_proj,
                    child.num_heads,
                    context_width=child.to_k.in_features,
                    flash=flash,
                    upcast=upcast,
                )
                setattr(parent, name, ours)
