"""Entry point of the autoencoders. Light: torch, MONAI, diffusers come in with the builders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from voxella.plugins import hookimpl
from voxella.plugins.contracts import Autoencoder
from voxella_backbones.linear import build_haar, build_identity, build_pca

__all__ = [
    "build_kl",
    "build_kl2d",
    "build_maisi",
    "build_vq",
    "voxella_factory",
]


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


def build_vq(
    *,
    spatial_dims: int,
    in_channels: int,
    latent_channels: int,
    weights: Path | None = None,
    channels: Sequence[int] = (128, 256, 512),
    attention: Sequence[bool] | None = None,
    res_blocks: int = 2,
    norm_groups: int = 32,
    codes: int = 8192,
    codebook_weight: float = 0.5,
    commitment: float = 0.25,
    legacy_loss: bool = False,
) -> Autoencoder:
    """Build a VQ autoencoder, 2D; the defaults are PathLDM's VQ-f4 (55,322,782 with 3 channels).

    VQ-f8 is ``channels: [128, 256, 256, 512]``, ``attention: [false, false, false, true]``,
    ``codes: 16384`` and ``latent.channels: 4``.

    Args:
        spatial_dims: 2 (wired).
        in_channels: Image channels (wired).
        latent_channels: Channels of the latent and of a code (wired).
        weights: Local file: a first stage's, or a whole checkpoint of latent diffusion's; None
            leaves the weights random.
        channels: Width of each level; every level below the first halves the grid.
        attention: Whether a level has attention, as long as ``channels``; None: none of them. The
            middle has always.
        res_blocks: Residual blocks per level.
        norm_groups: Groups of the group norms.
        codes: Size of the codebook.
        codebook_weight: Of the codebook's loss in training. The released weight is 1 beside an L1
            of images in [-1, 1], which is twice that of images in [0, 1]: 0.5 is the same.
        commitment: Weight, inside it, of what holds the encoder to the codes.
        legacy_loss: Paper mode: ``commitment`` weighs the other term, as in the released code.
    """
    from voxella_backbones.ldm.first_stage import Sizes
    from voxella_backbones.ldm.vq import VQ

    sizes = Sizes(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        latent_channels=latent_channels,
        channels=channels,
        attention=attention,
        res_blocks=res_blocks,
        norm_groups=norm_groups,
    )
    return VQ(
        sizes,
        weights,
        codes=codes,
        codebook_weight=codebook_weight,
        commitment=commitment,
        legacy_loss=legacy_loss,
    )


def build_kl2d(
    *,
    spatial_dims: int,
    in_channels: int,
    latent_channels: int,
    weights: Path | None = None,
    channels: Sequence[int] = (128, 256, 512, 512),
    attention: Sequence[bool] | None = None,
    res_blocks: int = 2,
    norm_groups: int = 32,
) -> Autoencoder:
    """Build latent diffusion's KL autoencoder, 2D; the defaults are Stable Diffusion's KL-f8.

    KL-f4 is ``channels: [128, 256, 512]`` and ``latent.channels: 3``.

    Args:
        spatial_dims: 2 (wired).
        in_channels: Image channels (wired).
        latent_channels: Channels of the latent (wired).
        weights: Local file: a first stage's, or a whole checkpoint of latent diffusion's; None
            leaves the weights random.
        channels: Width of each level; every level below the first halves the grid.
        attention: Whether a level has attention, as long as ``channels``; None: none of them. The
            middle has always.
        res_blocks: Residual blocks per level.
        norm_groups: Groups of the group norms.
    """
    from voxella_backbones.ldm.first_stage import Sizes
    from voxella_backbones.ldm.kl2d import KL2d

    sizes = Sizes(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        latent_channels=latent_channels,
        channels=channels,
        attention=attention,
        res_blocks=res_blocks,
        norm_groups=norm_groups,
    )
    return KL2d(sizes, weights)


_BUILDERS: dict[str, Callable[..., Any]] = {
    "maisi": build_maisi,
    "kl": build_kl,
    "vq": build_vq,
    "kl2d": build_kl2d,
    "identity": build_identity,
    "haar": build_haar,
    "pca": build_pca,
}


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder of an autoencoder, or None when the name is not one of ours."""
    return _BUILDERS.get(name)
