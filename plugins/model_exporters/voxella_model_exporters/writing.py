"""Files that other code reads, and the refusal of a model that it could not read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.plugins import registry
from voxella.plugins.component import Component

__all__ = ["arguments_of", "refuse_misfits", "write_torch"]


def arguments_of(kind: str, component: Component) -> dict[str, Any]:
    """Return the arguments of a recipe's component, its builder's defaults among them."""
    parameters = inspect.signature(registry.builder(kind, component.name)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {**defaults, **component.arguments}


def write_torch(path: Path, content: Mapping[str, Any]) -> Path:
    """Write tensors and plain values as ``torch.save`` does, atomically; return the path."""
    with atomic_path(path) as temporary:
        torch.save(dict(content), temporary)
    return path


def refuse_misfits(exporter: str, problems: Sequence[str], *, fits: str, remedy: str) -> None:
    """Refuse a model that the other code has no network for, all its problems at once.

    Args:
        exporter: Its name.
        problems: What does not fit.
        fits: Which models do.
        remedy: What to do instead.

    Raises:
        UserError: There are problems.
    """
    if problems:
        lines = [f"export {exporter}: {problem}" for problem in problems]
        raise UserError("\n".join(lines), expected=fits, remedy=remedy)
