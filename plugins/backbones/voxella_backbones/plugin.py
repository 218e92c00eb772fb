"""Entry point of the denoisers. Light: torch, MONAI, diffusers are imported in the builders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from voxella.plugins import hookimpl
from voxella.plugins.contracts import Backbone

__all__ = ["build_dit3d", "build_ldm_unet", "build_maisi_unet", "voxella_factory"]


def build_maisi_unet(
    *,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    context_dim: int | None,
    vectors: Mapping[str, int],
    channels: Sequence[int] = (64, 128, 256, 512),
    attention: Sequence[bool] = (False, False, True, True),
    head_channels: int = 32,
    res_blocks: int = 2,
    norm_groups: int = 32,
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
) -> Backbone:
    """Build MAISI's diffusion U-Net; the defaults are the paper's sizes.

    Args:
        spatial_dims: 2 or 3 (wired).
        in_channels: Latent channels (wired).
        out_channels: Channels to predict (wired).
        context_dim: Width of the context tokens, or None (wired).
        vectors: ``{name: width}`` of the vectors, in the recipe's order (wired).
        channels: Width of each level; every level below the first halves the grid.
        attention: Whether a level has attention; as long as ``channels``.
        head_channels: Channels per attention head.
        res_blocks: Residual blocks per level.
        norm_groups: Groups of the group norms.
        upcast_attention: Scores in float32, where ``flash_attention`` is off.
        flash_attention: torch's fused attention, on any device.
        resblock_updown: Residual blocks, not convolutions, halve and double the grid.
        include_fc: A projection after self-attention.
        num_class_embeds: Rows of the table of modalities (MAISI's flow: 128); None: no table.
        class_vector: The vector that chooses a row, such as ``modality``, with scale 1.
        class_rows: The row of each of its values; None: the first rows in order.
        class_unknown: The row of a case whose value is not known (MAISI: 0); None: none.
        maisi_flow: For weights of MAISI's flow: its timesteps and its sign of the velocity.
        cross_attention: Where there is a context: ``blocks``, transformer blocks as in the paper;
            ``added``, behind the self-attention of a U-Net without context, so that its trained
            weights keep their place (``init.missing: new``).
    """
    from voxella_backbones.maisi_unet import MaisiUNet

    return MaisiUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        context_dim=context_dim,
        vectors=vectors,
        channels=channels,
        attention=attention,
        head_channels=head_channels,
        res_blocks=res_blocks,
        norm_groups=norm_groups,
        upcast_attention=upcast_attention,
        flash_attention=flash_attention,
        resblock_updown=resblock_updown,
        include_fc=include_fc,
        num_class_embeds=num_class_embeds,
        class_vector=class_vector,
        class_rows=class_rows,
        class_unknown=class_unknown,
        maisi_flow=maisi_flow,
        cross_attention=cross_attention,
    )


def build_dit3d(
    *,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    input_size: Sequence[int],
    context_dim: int | None,
    vectors: Mapping[str, int],
    patch_size: int = 2,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    pooled_context: bool = False,
) -> Backbone:
    """Build a diffusion transformer; the defaults are the sizes of DiT-S.

    Args:
        spatial_dims: 2 or 3 (wired).
        in_channels: Latent channels (wired).
        out_channels: Channels to predict (wired).
        input_size: Latent voxels per axis (wired); ``patch_size`` divides each.
        context_dim: Width of the context tokens, or None (wired).
        vectors: ``{name: width}`` of the vectors (wired).
        patch_size: Voxels per token, along each axis.
        width: Channels of a token; ``heads`` divides it.
        depth: Number of blocks.
        heads: Attention heads per block.
        pooled_context: Add the mean of the context tokens to the time embedding, as Stable
            Diffusion 3 does its pooled text (arXiv 2403.03206): the text is heard sooner.
    """
    from voxella_backbones.dit3d import DiT

    return DiT(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        input_size=input_size,
        context_dim=context_dim,
        vectors=vectors,
        patch_size=patch_size,
        width=width,
        depth=depth,
        heads=heads,
        pooled_context=pooled_context,
    )


def build_ldm_unet(
    *,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    context_dim: int | None,
    vectors: Mapping[str, int],
    channels: Sequence[int] = (192, 384, 576, 960),
    attention: Sequence[bool] = (False, True, True, True),
    heads: int | list[int] = 1,
    res_blocks: int = 2,
    norm_groups: int = 32,
    weights: Path | None = None,
) -> Backbone:
    """Build latent diffusion's U-Net, 2D; the defaults are PathLDM's sizes (400,920,579 weights).

    Args:
        spatial_dims: 2 (wired).
        in_channels: Latent channels (wired).
        out_channels: Channels to predict (wired).
        context_dim: Width of the context tokens, or None (wired).
        vectors: ``{name: width}`` of the vectors, added to the time embedding (wired).
        channels: Width of each level; every level below the first halves the grid.
        attention: Whether a level has attention; as long as ``channels``.
        heads: Attention heads: one number, or one a level (LDM-8's heads are 32 wide: [8, 16, 32]).
        res_blocks: Residual blocks per level.
        norm_groups: Groups of the group norms.
        weights: Local ``.ckpt``, ``.pt`` or ``.safetensors`` file that training starts from, such
            as ``cin256-v2``'s; all of the U-Net's tensors or an error. None: random.
    """
    from voxella_backbones.ldm.unet import LdmUNet

    return LdmUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        context_dim=context_dim,
        vectors=vectors,
        channels=channels,
        attention=attention,
        heads=heads,
        res_blocks=res_blocks,
        norm_groups=norm_groups,
        weights=weights,
    )


_BUILDERS: dict[str, Callable[..., Any]] = {
    "maisi_unet": build_maisi_unet,
    "dit3d": build_dit3d,
    "ldm_unet": build_ldm_unet,
}


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder of a denoiser, or None when the name is not one of ours."""
    return _BUILDERS.get(name)
