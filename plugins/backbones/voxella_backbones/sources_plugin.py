"""Entry point of the sources of released networks. Light: torch is imported inside the builders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from voxella.plugins import hookimpl
from voxella.plugins.contracts import Source

__all__ = ["build_ldm", "build_maisi", "voxella_factory"]


def build_maisi() -> Source:
    """Build the source of MAISI's and NV-Generate's denoisers and autoencoders."""
    from voxella_backbones.maisi_source import MaisiSource

    return MaisiSource()


def build_ldm() -> Source:
    """Build the source of latent diffusion's networks, and of PathLDM's checkpoint."""
    from voxella_backbones.ldm.source import LdmSource

    return LdmSource()


_BUILDERS: dict[str, Callable[..., Any]] = {"maisi": build_maisi, "ldm": build_ldm}


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder of a source, or None when the name is not one of ours."""
    return _BUILDERS.get(name)
