"""Cached token features as the arrays that the released CCELLA code reads: one file a case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from voxella.cache.text import TextCache
from voxella.case import Case
from voxella.errors import UserError
from voxella.files import atomic_path
from voxella_importers.ccella.entries import folder_of

__all__ = ["write_features"]

# Features tell of their report: like it, they are for their owner only.


def write_features(cases: Sequence[Case], cache: Path, out: Path) -> dict[str, Path]:
    """Write ``<folder>/text.npy`` and ``null.npy`` under ``out``; return each case's file.

    The arrays are float32 of shape (tokens, width), padded to the recipe's ``text.max_tokens``: the
    released code puts them into batches as they are.

    Args:
        cases: Those to be exported.
        cache: The folder ``text`` of a run that was encoded with ``text.padding=max``.
        out: Folder that is made.

    Raises:
        UserError: There is no such cache, it lacks cases, or its features are not padded.
    """
    features = TextCache.open(cache)
    features.require(case.id for case in cases)
    if features.settings.get("padding") != "max":
        raise UserError(
            f"{cache}: its features have their true lengths; the released code wants them padded",
            remedy="encode once more with --set text.padding=max --set text.dtype=float32",
        )
    found: dict[str, Path] = {}
    for case in cases:
        tensor, has_report = features.read(case.id)
        path = out / folder_of(case) / "text.npy" if has_report else out / "null.npy"
        found[case.id] = path.absolute()
        if has_report or not path.exists():
            with atomic_path(path) as temporary, temporary.open("wb") as handle:
                np.save(handle, tensor.float().numpy())
    return found
