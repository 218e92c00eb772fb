"""Entry point of the denoisers. Light: torch and MONAI are imported inside the builders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from voxella.plugins import hookimpl
from voxella.plugins.contracts import Backbone

__all__ = ["build_dit3d", "build_maisi_unet", "voxella_factory"]


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
    )


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder of a denoiser, or None when the name is not one of ours."""
    builders: dict[str, Callable[..., Any]] = {"maisi_unet": build_maisi_unet, "dit3d": build_dit3d}
    return builders.get(name)
