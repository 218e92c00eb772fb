"""Entry point of the autoencoders. Light: torch and MONAI are imported inside the builders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from voxella.plugins import hookimpl
from voxella.plugins.contracts import Autoencoder

__all__ = ["build_kl", "build_maisi", "voxella_factory"]


def build_maisi(
    *,
    spatial_dims: int,
    in_channels: int,
    latent_channels: int,
    weights: Path | None = None,
    channels: Sequence[int] = (64, 128, 256),
    res_blocks: int = 2,
    norm_groups: int = 32,
    num_splits: int = 1,
    norm_float16: bool = False,
) -> Autoencoder:
    """Build MAISI's variational autoencoder; the defaults are the released sizes.

    Args:
        spatial_dims: 3; the network has no 2D form (wired).
        in_channels: Image channels (wired).
        latent_channels: Channels of the latent (wired).
        weights: Local ``.pt`` or ``.safetensors`` file; None leaves the weights random.
        channels: Width of each level; every level below the first halves the grid.
        res_blocks: Residual blocks per level.
        norm_groups: Groups of the group norms.
        num_splits: Parts into which each convolution cuts its input, 2 as released. Changes no
            value, and by our estimate saves nothing: use ``latent.tiling``.
        norm_float16: Run under float16 on CUDA, as released; without effect on the CPU.
    """
    from voxella_backbones.maisi_autoencoder import MaisiAutoencoder

    return MaisiAutoencoder(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        latent_channels=latent_channels,
        weights=weights,
        channels=channels,
        res_blocks=res_blocks,
        norm_groups=norm_groups,
        num_splits=num_splits,
        norm_float16=norm_float16,
    )


def build_kl(
    *,
    spatial_dims: int,
    in_channels: int,
    latent_channels: int,
    weights: Path | None = None,
    channels: Sequence[int] = (16, 32, 32),
    res_blocks: int = 1,
    norm_groups: int = 8,
) -> Autoencoder:
    """Build a small KL autoencoder, 2D or 3D, to be trained with ``voxella train-autoencoder``.

    Args:
        spatial_dims: 2 or 3 (wired).
        in_channels: Image channels (wired).
        latent_channels: Channels of the latent (wired).
        weights: Local ``.pt`` or ``.safetensors`` file; None leaves the weights random.
        channels: Width of each level; every level below the first halves the grid.
        res_blocks: Residual blocks per level.
        norm_groups: Groups of the group norms.
    """
    from voxella_backbones.kl_autoencoder import KLAutoencoder

    return KLAutoencoder(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        latent_channels=latent_channels,
        weights=weights,
        channels=channels,
        res_blocks=res_blocks,
        norm_groups=norm_groups,
    )


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder of an autoencoder, or None when the name is not one of ours."""
    builders: dict[str, Callable[..., Any]] = {"maisi": build_maisi, "kl": build_kl}
    return builders.get(name)
