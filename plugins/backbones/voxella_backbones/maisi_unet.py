"""MAISI's diffusion U-Net, told of any named vectors and of a context with a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.nets.diffusion_model_unet import (
    DiffusionUNetResnetBlock,
    get_timestep_embedding,
)
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.errors import UserError
from voxella_backbones.added_attention import add_cross_attention, replace_attention
from voxella_backbones.attention import pack_mask
from voxella_backbones.checkpointed import CheckpointedBlock, make_checkpointable
from voxella_backbones.growing import Grown, grown_unet
from voxella_backbones.inputs import (
    ClassTable,
    checked_context,
    checked_rows,
    checked_vectors,
    vector_mlp,
)

__all__ = ["MaisiUNet"]


class MaisiUNet(DiffusionModelUNetMaisi):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's ``DiffusionModelUNetMaisi`` (Guo et al. 2024, arXiv:2409.11169), conditioned at will.

    MONAI's class knows three fixed vectors. Here every vector of ``vectors`` is lifted to the
    width of the time embedding by a network of its own, ``<name>_layer``, and all are CONCATENATED
    in order behind the time embedding before they reach the residual blocks. A U-Net with the one
    vector ``spacing`` has the very parameters, names and outputs of MONAI's.

    Two differences, neither of which changes a value: attention is computed in one dtype (see
    :mod:`voxella_backbones.attention`; MONAI's ``upcast_attention`` fails when the whole model is
    bfloat16), and cross-attention accepts a mask.

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
        resblock_updown: Halve and double the grid in residual blocks, not in convolutions.
        include_fc: An output projection after self-attention.
        num_class_embeds: Rows of the table of class embeddings; None: no such table.
        class_vector: The vector of indicators that chooses among its rows; what it finds is ADDED
            to the time embedding, as MAISI does with the modality.
        class_rows: The row of each of that vector's values; None: the first ones in order.
        class_unknown: The row where the value is not known; None: nothing is added.
        maisi_flow: The network speaks MAISI's flow: told ``t + 1`` (1000 is pure noise), it answers
            with the velocity towards the data, of the opposite sign.
        cross_attention: ``blocks``: transformer blocks, the paper's; ``added``: behind the
            self-attention of a U-Net without context, whose parameters keep their names.

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
        resblock_updown: bool = False,
        include_fc: bool = False,
        num_class_embeds: int | None = None,
        class_vector: str | None = None,
        class_rows: Sequence[int] | None = None,
        class_unknown: int | None = None,
        maisi_flow: bool = False,
        cross_attention: Literal["blocks", "added"] = "blocks",
    ) -> None:
        rows = checked_rows(
            "maisi_unet", vectors, class_vector, num_class_embeds, class_rows, class_unknown
        )
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
            resblock_updown=resblock_updown,
            include_fc=include_fc,
        )
        self.context_dim = context_dim
        self.maisi_flow = maisi_flow
        self.told_widths = dict(vectors)
        self.class_vector = class_vector
        self.vector_widths = {n: size for n, size in vectors.items() if n != class_vector}
        if num_class_embeds is not None:
            self.class_embedding = ClassTable(
                num_class_embeds, 4 * channels[0], rows, class_unknown
            )
        self._join_vectors(4 * channels[0])
        if context_dim is not None and cross_attention == "added":
            add_cross_attention(self, context_dim, flash=flash_attention, upcast=upcast_attention)
        replace_attention(self, flash=flash_attention, upcast=upcast_attention)
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
        told = checked_vectors(conditioning, self.told_widths, batch, dtype)
        vectors = dict(zip(self.told_widths, told, strict=True))
        context, mask = checked_context(conditioning, self.context_dim, batch, dtype)
        packed = None if context is None else pack_mask(context, mask)
        embedding = self._embed(timesteps + 1 if self.maisi_flow else timesteps, vectors, dtype)
        h = self.conv_in(x.to(dtype))
        h, skips = self._apply_down_blocks(h, embedding, packed, None)
        h = self.middle_block(h, embedding, packed)
        h = self._apply_up_blocks(h, embedding, packed, skips)
        out: Tensor = self.out(h)
        return (-out if self.maisi_flow else out).to(x.dtype)

    def _embed(self, timesteps: Tensor, vectors: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        """Return time and vectors joined, ``(B, width * (1 + vectors))``."""
        time = get_timestep_embedding(timesteps, self.block_out_channels[0]).to(dtype)
        first = self.time_embed(time)
        if self.class_vector is not None:
            first = first + self.class_embedding(vectors[self.class_vector])
        lifted = [self.get_submodule(f"{name}_layer")(vectors[name]) for name in self.vector_widths]
        return torch.cat([first, *lifted], dim=1)

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

    def grown(self, state: Mapping[str, Tensor]) -> Grown:
        """Fit a state without some of the vectors, or without context, see ``growing``."""
        return grown_unet(
            self.state_dict(), state, list(self.vector_widths), 4 * self.block_out_channels[0]
        )


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
