"""The images of a case that are to be looked at, and which of them are not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxella.case import Case, Manifest
from voxella.check.catalogue import found
from voxella.check.finding import Finding
from voxella.check.settings import CheckSettings

__all__ = ["CaseImages", "images_of"]


@dataclass(frozen=True)
class CaseImages:
    """Image files of one case.

    Attributes:
        case: Its id.
        files: By sequence.
        masks: Sequences that are masks: they may be empty, and equal another case's.
        reference: The sequence that decides the grid; "" where the case has none.
    """

    case: str
    files: dict[str, Path]
    masks: frozenset[str]
    reference: str


def images_of(
    manifest: Manifest, case: Case, settings: CheckSettings
) -> tuple[CaseImages, list[Finding]]:
    """Return the images to look at, and a finding for each that is not there."""
    wanted = settings.wanted(case)
    images = CaseImages(
        case.id,
        {name: manifest.image_path(case, name) for name in wanted if name in case.images},
        frozenset(name for name in wanted if settings.is_mask(case, name)),
        next(iter(wanted), ""),
    )
    has = ", ".join(case.images) or "none"
    findings = [
        found("image.no-sequence", f"no {name} image (there is: {has})", case=case.id, where=name)
        for name in wanted
        if name not in case.images
    ]
    if not wanted:
        findings.append(found("image.no-sequence", "no image of any sequence", case=case.id))
    return images, findings
