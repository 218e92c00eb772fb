"""Entry point of the source of released classifiers. Light: torch is imported in the builder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from voxella.plugins import hookimpl
from voxella.plugins.contracts import Source

__all__ = ["build_torchvision", "voxella_factory"]


def build_torchvision() -> Source:
    """Build the source of torchvision's ResNets of basic blocks."""
    from voxella_classifiers.torchvision_source import TorchvisionSource

    return TorchvisionSource()


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder of a source, or None when the name is not one of ours."""
    builders: dict[str, Callable[..., Any]] = {"torchvision": build_torchvision}
    return builders.get(name)
