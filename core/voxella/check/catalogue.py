"""Every kind of finding by its code; docs/check.md is held to this table by a test."""

from __future__ import annotations

from voxella.check.finding import Finding
from voxella.check.kind import Kind
from voxella.check.kinds_dataset import DATASET_KINDS
from voxella.check.kinds_images import IMAGE_KINDS
from voxella.check.kinds_texts import TEXT_KINDS

__all__ = ["CATALOGUE", "found"]

CATALOGUE: dict[str, Kind] = DATASET_KINDS | IMAGE_KINDS | TEXT_KINDS


def found(code: str, message: str, *, case: str | None = None, where: str | None = None) -> Finding:
    """Return a finding of a kind in the catalogue; its severity and remedy are the kind's."""
    return CATALOGUE[code].found(message, case=case, where=where)
