"""Entry point of the sources of released models. Light: torch is imported inside the builders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from voxella.plugins.contracts import Source
from voxella.plugins.specs import hookimpl

__all__ = ["ccella", "clip", "voxella_factory"]


def ccella() -> Source:
    """Build the source of the released CCELLA models, in all nine variants."""
    from voxella_conditioners.ccella_source import CcellaSource

    return CcellaSource()


def clip() -> Source:
    """Build the source of CLIP's and PLIP's text parts."""
    from voxella_conditioners.clip_source import ClipSource

    return ClipSource()


_BUILDERS: dict[str, Callable[..., Any]] = {"ccella": ccella, "clip": clip}


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder of a source, or None when the name is not one of ours."""
    return _BUILDERS.get(name)
