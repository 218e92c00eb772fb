"""What else is taken from a volume beside features: a small image, a histogram, its latent.

Each is an extractor as a feature network is: a name, a fingerprint, and rows of numbers from one
volume, so that all are computed in one pass and kept in one cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from voxella.autoencoder.tiling.autoencoder import TiledAutoencoder
from voxella.evaluation.volumes import Images
from voxella.hashing import sha256_json
from voxella.metrics.features.network import FeatureNetwork
from voxella.metrics.histogram import intensity_counts

__all__ = [
    "BINS",
    "EDGES",
    "Extractor",
    "Histogram",
    "LatentMean",
    "OneSequence",
    "Thumbnail",
    "pooled",
]

BINS = 256
EDGES = np.linspace(0.0, 1.0, BINS + 1)
# Numbers kept of an image or a latent: the paper's 5,071 cases then take 1.3 GB.
_KEPT = 2**16


class Extractor(Protocol):
    """Anything that turns a case's images into rows of numbers."""

    @property
    def name(self) -> str:
        """Return the folder of its results."""

    @property
    def fingerprint(self) -> str:
        """Return a hash of all that decides its results."""

    def features(self, images: Images) -> Tensor:
        """Return ``(rows, dim)`` float32 on the CPU.

        Raises:
            UserError: The images cannot serve; without the case's name.
        """


@dataclass(frozen=True)
class OneSequence:
    """A feature network, which sees one sequence of a case.

    Attributes:
        network: Of volumes ``(1, R, A, S)``, or ``(3, R, A, S)`` in colours.
        channel: The sequence's first.
        count: How many channels it has.
    """

    network: FeatureNetwork
    channel: int
    count: int = 1

    @property
    def name(self) -> str:
        """Return the network's."""
        return self.network.name

    @property
    def fingerprint(self) -> str:
        """Return the network's, and the channel's number."""
        seen = [self.channel] if self.count == 1 else [self.channel, self.count]
        return sha256_json([self.network.fingerprint, *seen])

    def features(self, images: Images) -> Tensor:
        """Return ``(rows, dim)``."""
        return self.network.features(images.voxels[self.channel : self.channel + self.count])


@dataclass(frozen=True)
class Thumbnail:
    """The images as one vector, averaged over blocks down to a bounded number of voxels."""

    name: str = "image"

    @property
    def fingerprint(self) -> str:
        """Return a hash of the bound."""
        return sha256_json([self.name, _KEPT])

    def features(self, images: Images) -> Tensor:
        """Return ``(1, numbers)``."""
        return pooled(images.voxels)


@dataclass(frozen=True)
class Histogram:
    """Foreground voxels per bin of intensity.

    Attributes:
        channel: The first of the sequence.
        count: How many it has; colours are counted together.
    """

    channel: int
    count: int = 1
    name: str = "histogram"

    @property
    def fingerprint(self) -> str:
        """Return a hash of bins and channel."""
        seen = [self.channel] if self.count == 1 else [self.channel, self.count]
        return sha256_json([self.name, BINS, *seen])

    def features(self, images: Images) -> Tensor:
        """Return ``(1, BINS)``. What is darker than a bin is background, as a decoder paints it."""
        seen = images.voxels[self.channel : self.channel + self.count].numpy()
        counts = intensity_counts(seen, EDGES, above=float(EDGES[1]))
        return torch.from_numpy(counts).float()[None]


@dataclass(frozen=True)
class LatentMean:
    """The autoencoder's mean, as the latent cache has it of real cases.

    Attributes:
        autoencoder: In evaluation mode.
        of: Fingerprint of its weights.
        spatial_dims: 3; or 2, where a volume is one slice.
        device: Where it is.
    """

    autoencoder: TiledAutoencoder
    of: str
    spatial_dims: int
    device: torch.device
    name: str = "latent"

    @property
    def fingerprint(self) -> str:
        """Return a hash of weights and windows."""
        return sha256_json([self.name, self.of, self.autoencoder.windows.as_json(), _KEPT])

    @torch.no_grad()
    def features(self, images: Images) -> Tensor:
        """Return ``(1, numbers)``."""
        image = images.voxels if self.spatial_dims == 3 else images.voxels[..., 0]
        mean, _ = self.autoencoder.encode(image[None].to(self.device))
        return pooled(mean[0].float().cpu())


def pooled(values: Tensor) -> Tensor:
    """Return ``(C, *spatial)`` as ``(1, numbers)``, averaged over blocks where it is large."""
    size: Sequence[int] = values.shape[1:]
    excess = values.numel() / _KEPT
    if excess > 1:
        shrink = excess ** (1 / len(size))
        smaller = [max(1, int(edge / shrink)) for edge in size]
        values = functional.interpolate(values[None], smaller, mode="area")[0]
    return values.reshape(1, -1)
