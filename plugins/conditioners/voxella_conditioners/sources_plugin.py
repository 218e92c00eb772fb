"""Entry point of the sources of released models. Light: torch is imported inside the builders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from voxella.plugins.contracts import Source
from voxella.plugins.specs import hookimpl

__all__ = ["ccella", "voxella_factory"]


def ccella() -> Source:
    """Build the source of the released CCELLA models, in all nine variants."""
    from voxella_conditioners.ccella_source import CcellaSource

    return CcellaSource()


_BUILDERS: dict[str, Callable[..., Any]] = {"ccella": ccella}


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder of a source, or None when the name is not one of ours."""
    return _BUILDERS.get(name)
