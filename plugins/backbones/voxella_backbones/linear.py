"""Builders of the autoencoders that are linear. Light: torch comes in with the builders."""

from __future__ import annotations

from pathlib import Path

from voxella.plugins.contracts import Autoencoder

__all__ = ["build_haar", "build_identity", "build_pca"]


def build_identity(*, in_channels: int, latent_channels: int) -> Autoencoder:
    """Build no autoencoder: the latent is the image in [-1, 1], for diffusion on pixels.

    Args:
        in_channels: Image channels (wired).
        latent_channels: The same number (wired).
    """
    from voxella_backbones.identity_autoencoder import Identity

    return Identity(in_channels=in_channels, latent_channels=latent_channels)


def build_haar(
    *, spatial_dims: int, in_channels: int, latent_channels: int, levels: int = 1
) -> Autoencoder:
    """Build a lossless packing of voxels into channels, by an orthonormal Haar transform.

    Args:
        spatial_dims: 2 or 3 (wired).
        in_channels: Image channels (wired).
        latent_channels: ``in_channels * 2 ** (levels * spatial_dims)`` (wired).
        levels: How often each axis is halved.
    """
    from voxella_backbones.haar_autoencoder import Haar

    return Haar(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        latent_channels=latent_channels,
        levels=levels,
    )


def build_pca(
    *,
    spatial_dims: int,
    in_channels: int,
    latent_channels: int,
    factor: int = 4,
    whiten: float = 0.5,
    weights: Path | None = None,
) -> Autoencoder:
    """Build principal components of patches, which ``voxella train-autoencoder`` fits at once.

    Args:
        spatial_dims: 2 or 3 (wired).
        in_channels: Image channels (wired).
        latent_channels: Components kept (wired).
        factor: Edge of a patch, voxels.
        whiten: 0 keeps the components' sizes, 1 makes them equal.
        weights: Local ``.safetensors`` of components fitted before; None: they are to be fitted.
    """
    from voxella_backbones.pca_autoencoder import Pca
    from voxella_backbones.weights import load_weights

    model = Pca(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        latent_channels=latent_channels,
        factor=factor,
        whiten=whiten,
    )
    if weights is not None:
        load_weights(model, weights)
    return model
