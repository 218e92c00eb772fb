"""What a feature network is: a volume in, one vector or one per slice out.

Numbers from different networks must never be compared, so each carries its name and a fingerprint
of its weights, and says whether it is the one that the paper's numbers were taken with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

__all__ = ["PLANES", "FeatureNetwork", "Plane", "TorchFeatures", "slices"]

Plane = Literal["sagittal", "coronal", "axial"]
# In the order of the volume's axes: a sagittal slice has one position along R, and so on.
PLANES: tuple[Plane, ...] = get_args(Plane)


class FeatureNetwork(Protocol):
    """Anything that turns volumes into vectors for the metrics."""

    @property
    def name(self) -> str:
        """Return what reports show, such as ``medicalnet-resnet50`` or ``random-seed0-axial``."""

    @property
    def fingerprint(self) -> str:
        """Return a hash of name, weights and sizes: equal ones mean comparable features."""

    @property
    def dim(self) -> int:
        """Return the width of a vector."""

    @property
    def comparable_with_paper(self) -> bool:
        """Return whether architecture and intensities are the paper's; the hash says more."""

    def features(self, volume: Tensor) -> Tensor:
        """Return ``(rows, dim)`` float32 on the CPU for one volume ``(1, R, A, S)`` in [0, 1].

        Or ``(3, R, A, S)``, red, green and blue.

        One row for a network of volumes; for one of slices, a row for each slice of its plane.
        """


@dataclass(frozen=True, eq=False)
class TorchFeatures:
    """A torch module as :class:`FeatureNetwork`.

    Attributes:
        name: See the protocol.
        fingerprint: See the protocol.
        dim: See the protocol.
        comparable_with_paper: See the protocol.
        module: ``(B, channels, *spatial)`` to ``(B, dim)``, in evaluation mode.
        weights_sha256: Of the file of weights; None where there is none.
        plane: Of a network of slices; None for one of volumes.
        pictures: It is of whole pictures, images of two axes, whose numbers bear no plane's name.
        channels: The one channel is repeated so often. Three equal channels are the same in BGR
            order as in RGB; colours go in as RGB, or as their mean where it has one channel.
        device: Where to compute.
        batch: Slices at a time. Fixed, so that a volume's features never depend on other volumes.
    """

    name: str
    fingerprint: str
    dim: int
    comparable_with_paper: bool
    module: nn.Module
    weights_sha256: str | None = None
    plane: Plane | None = None
    pictures: bool = False
    channels: int = 1
    device: torch.device | str = "cpu"
    batch: int = 32

    @torch.no_grad()
    def features(self, volume: Tensor) -> Tensor:
        """Return ``(rows, dim)`` float32 on the CPU.

        Args:
            volume: ``(1, R, A, S)`` or ``(3, R, A, S)`` in [0, 1].

        Raises:
            ValueError: The shape is another.
        """
        if volume.dim() != 4 or volume.shape[0] not in (1, 3):
            raise ValueError(f"a volume (1 or 3, R, A, S) is needed, not {tuple(volume.shape)}")
        if volume.shape[0] > self.channels:
            volume = volume.mean(dim=0, keepdim=True)
        found = [self._run(images) for images in self._images(volume.float())]
        return torch.cat(found)

    def _images(self, volume: Tensor) -> Iterator[Tensor]:
        images = volume[None] if self.plane is None else slices(volume, self.plane)
        repeated = (1, self.channels // volume.shape[0], *[1] * (images.dim() - 2))
        for start in range(0, len(images), self.batch):
            yield images[start : start + self.batch].repeat(repeated)

    def _run(self, images: Tensor) -> Tensor:
        # TF32 would make a GPU's features differ from a CPU's in the third digit.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found: Tensor = self.module(images.to(self.device))
        return found.float().cpu()


def slices(volume: Tensor, plane: Plane) -> Tensor:
    """Return every slice of one plane, ``(slices, C, *rest)``, of a volume ``(C, R, A, S)``."""
    return volume.movedim(1 + PLANES.index(plane), 0)
