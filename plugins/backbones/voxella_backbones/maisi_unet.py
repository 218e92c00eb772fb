"""MAISI's diffusion U-Net, told of any named vectors and of a context with a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.blocks import CrossAttentionBlock, SABlock
from monai.networks.nets.diffusion_model_unet import (
    DiffusionUNetResnetBlock,
    get_timestep_embedding,
)
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.errors import UserError
from voxella_backbones.attention import PackedAttention, pack_mask
from voxella_backbones.checkpointed import CheckpointedBlock, make_checkpointable
from voxella_backbones.inputs import checked_context, checked_vectors, vector_mlp

__all__ = ["MaisiUNet"]


class MaisiUNet(DiffusionModelUNetMaisi):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's ``DiffusionModelUNetMaisi`` (Guo et al. 2024, arXiv:2409.11169), conditioned at will.

    MONAI's class knows three fixed vectors. Here every vector of ``vectors`` is lifted to the
    width of the time embedding by a network of its own, ``<name>_layer``, and all are CONCATENATED
    in order behind the time embedding before they reach the residual blocks. A U-Net with the one
    vector ``spacing`` has the very parameters, names and outputs of MONAI's.

    Two differences, neither of which changes a value: attention is computed in one dtype (see
    :mod:`voxella_backbones.attention`; MONAI's ``upcast_attention`` fails when the whole model is
    bfloat16), and cross-attention accepts a mask. Left as in the paper's configuration: no
    residual up- and downsampling, no output projection after self-attention.

    Inputs are cast to the parameters' dtype; the output has the dtype of ``x``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of ``x``.
        out_channels: Channels predicted.
        context_dim: Width of the context tokens; None builds a U-Net without cross-attention.
        vectors: ``{name: width}``, in the order of joining. May be empty.
        channels: Width of each level.
        attention: Whether a level has attention.
        head_channels: Channels per attention head.
        res_blocks: Residual blocks per level.
        norm_groups: Groups of the group norms.
        upcast_attention: Scores in float32, where ``flash_attention`` is off.
        flash_attention: Fused attention (any device), or the explicit score matrix.

    Raises:
        UserError: If the sizes do not fit one another; all of them are named at once.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        context_dim: int | None,
        vectors: Mapping[str, int],
        channels: Sequence[int],
        attention: Sequence[bool],
        head_channels: int,
        res_blocks: int,
        norm_groups: int,
        upcast_attention: bool = True,
        flash_attention: bool = True,
    ) -> None:
        _check_sizes(spatial_dims, vectors, channels, attention, head_channels, norm_groups)
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            num_res_blocks=res_blocks,
            num_channels=tuple(channels),
            attention_levels=tuple(attention),
            norm_num_groups=norm_groups,
            num_head_channels=head_channels,
            with_conditioning=context_dim is not None,
            cross_attention_dim=context_dim,
        )
        self.context_dim = context_dim
        self.vector_widths = dict(vectors)
        self._join_vectors(4 * channels[0])
        _replace_attention(self, flash=flash_attention, upcast=upcast_attention)
        make_checkpointable(self)

    def _join_vectors(self, width: int) -> None:
        """Add one network per vector and widen what the residual blocks read accordingly."""
        for name, size in self.vector_widths.items():
            self.add_module(f"{name}_layer", vector_mlp(size, width))
        joined = width * (1 + len(self.vector_widths))
        for module in self.modules():
            if isinstance(module, DiffusionUNetResnetBlock):
                module.emb_channels = joined
                module.time_emb_proj = nn.Linear(joined, module.out_channels)

    def forward(self, x: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Predict from a noised latent.

        Args:
            x: ``(B, C, *spatial)``; each axis a multiple of ``2 ** (levels - 1)``.
            timesteps: ``(B,)``, in steps of the schedule.
            conditioning: Exactly the vectors, and the context if any, that were built in.

        Returns:
            ``(B, out_channels, *spatial)`` in the dtype of ``x``.

        Raises:
            ValueError: If the conditioning is not what the network was built for.
            UserError: If the latent cannot be halved often enough.
        """
        self._check_grid(x)
        dtype, batch = self.time_embed[0].weight.dtype, x.shape[0]
        vectors = checked_vectors(conditioning, self.vector_widths, batch, dtype)
        context, mask = checked_context(conditioning, self.context_dim, batch, dtype)
        packed = None if context is None else pack_mask(context, mask)
        embedding = self._embed(timesteps, vectors, dtype)
        h = self.conv_in(x.to(dtype))
        h, skips = self._apply_down_blocks(h, embedding, packed, None)
        h = self.middle_block(h, embedding, packed)
        h = self._apply_up_blocks(h, embedding, packed, skips)
        out: Tensor = self.out(h)
        return out.to(x.dtype)

    def _embed(self, timesteps: Tensor, vectors: list[Tensor], dtype: torch.dtype) -> Tensor:
        """Return time and vectors joined, ``(B, width * (1 + vectors))``."""
        time = get_timestep_embedding(timesteps, self.block_out_channels[0]).to(dtype)
        parts = [self.time_embed(time)]
        for name, vector in zip(self.vector_widths, vectors, strict=True):
            parts.append(self.get_submodule(f"{name}_layer")(vector))
        return torch.cat(parts, dim=1)

    def _check_grid(self, x: Tensor) -> None:
        divisor = 2 ** (len(self.block_out_channels) - 1)
        if any(size % divisor for size in x.shape[2:]):
            raise UserError(
                f"maisi_unet: a latent of {tuple(x.shape[2:])} voxels cannot be halved "
                f"{len(self.block_out_channels) - 1} times",
                expected=f"multiples of {divisor} along each axis",
                remedy="change latent.size, or give the backbone fewer channels entries",
            )

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute residual and attention blocks in the backward pass; no value changes."""
        for module in self.modules():
            if isinstance(module, CheckpointedBlock):
                module.checkpointing = enabled


def _replace_attention(network: nn.Module, *, flash: bool, upcast: bool) -> None:
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


def _check_sizes(
    spatial_dims: int,
    vectors: Mapping[str, int],
    channels: Sequence[int],
    attention: Sequence[bool],
    head_channels: int,
    norm_groups: int,
) -> None:
    """Refuse sizes that MONAI would refuse one by one, or not at all."""
    problems: list[str] = []
    if spatial_dims not in (2, 3):
        problems.append(f"spatial_dims is {spatial_dims}: 2 and 3 are allowed")
    if len(channels) != len(attention) or not channels:
        problems.append(f"channels has {len(channels)} levels, attention {len(attention)}")
    problems += [
        f"channels: {width} is not a multiple of norm_groups {norm_groups}"
        for width in channels
        if width % norm_groups
    ]
    # The bottom of the U has attention always.
    attending = [w for w, on in zip(channels, attention, strict=False) if on] + list(channels[-1:])
    problems += [
        f"channels: {width} is not a multiple of head_channels {head_channels}"
        for width in dict.fromkeys(attending)
        if width % head_channels
    ]
    problems += [
        f"vectors: {name!r} cannot name a vector (letters, digits and _ only)"
        for name in vectors
        if not name.isidentifier()
    ]
    if problems:
        raise UserError(
            "maisi_unet: " + "; ".join(problems), remedy="change the recipe's backbone block"
        )
