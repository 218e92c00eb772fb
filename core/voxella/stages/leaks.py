"""Copies of a scan in two splits, refused before a model is trained on what it is tested on."""

from __future__ import annotations

from voxella.case import Case, Manifest
from voxella.check.catalogue import CATALOGUE
from voxella.check.copies import Picture, copies
from voxella.errors import UserError

__all__ = ["refuse_leaks"]


def refuse_leaks(prepared: Manifest) -> None:
    """Refuse a data set whose splits share a scan, by the rule of `voxella check`.

    Args:
        prepared: The prepared data set; preparing has hashed the voxels of every scan.

    Raises:
        UserError: Naming all copies that stand in two splits.
    """
    pictures = [picture for case in prepared for picture in _pictures(case)]
    leaks = [found for found in copies(pictures) if found.severity == "error"]
    if leaks:
        kind = CATALOGUE[leaks[0].code]
        lines = [f"  case {leak.case}: {leak.where}: {leak.message}" for leak in leaks]
        raise UserError("\n".join([f"{kind.meaning} ({kind.code}):", *lines]), remedy=kind.remedy)


def _pictures(case: Case) -> list[Picture]:
    hashes = case.extra.get("voxels_sha256", {})
    return [Picture(case.id, name, case.split, content) for name, content in hashes.items()]
