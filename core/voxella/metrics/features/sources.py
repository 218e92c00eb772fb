"""Sources of the feature networks: the released files of MedicalNet, RadImageNet, pytorch-fid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.plugins import hookimpl
from voxella.plugins.released import Released, Source

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "FeatureSource",
    "build_inception",
    "build_medicalnet",
    "build_radimagenet",
    "voxella_factory",
]


class FeatureSource:
    """Reads one network's file and holds it to the network, which is built on ``meta``.

    Args:
        outline: Builds the network.
        what: Its name, for messages.
        licence: See :class:`voxella.plugins.released.Source`.
    """

    parts: frozenset[str] = frozenset({"features"})

    def __init__(self, outline: Callable[[], nn.Module], what: str, licence: str | None) -> None:
        self.outline = outline
        self.what = what
        self.licence = licence

    def read(self, path: Path) -> Released:
        """Read a file; see :class:`voxella.plugins.released.Source`.

        Raises:
            UserError: There is no such file, or it holds another network.
        """
        import torch

        from voxella.metrics.features.weights import read_released

        with torch.device("meta"):
            network = self.outline()
        return Released({"features": read_released(network, path, what=self.what)})


def build_medicalnet() -> Source:
    """Build the source of MedicalNet's ResNet-50 (``resnet_50_23dataset.pth``)."""

    def outline() -> nn.Module:
        from voxella.metrics.features.medicalnet import medicalnet_resnet

        network: nn.Module = medicalnet_resnet()
        return network

    return FeatureSource(outline, "MedicalNet's ResNet-50", None)


def build_radimagenet() -> Source:
    """Build the source of RadImageNet's ResNet-50 in its conversion from Keras."""

    def outline() -> nn.Module:
        from voxella.metrics.features.radimagenet import KerasResNet

        return KerasResNet()

    licence = "the terms that came with the download of RadImageNet's weights"
    return FeatureSource(outline, "RadImageNet's ResNet-50 (Keras conversion)", licence)


def build_inception() -> Source:
    """Build the source of pytorch-fid's Inception-v3 (``pt_inception-2015-12-05-6726825d.pth``)."""

    def outline() -> nn.Module:
        from voxella.metrics.features.inception import Inception

        return Inception()

    return FeatureSource(outline, "pytorch-fid's Inception-v3", None)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder of a source, or None when the name is not one of ours."""
    builders: dict[str, Callable[..., Any]] = {
        "inception": build_inception,
        "medicalnet": build_medicalnet,
        "radimagenet": build_radimagenet,
    }
    return builders.get(name)
