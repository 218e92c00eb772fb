"""What a phantom's report tells and what the detector found, in the same words."""

from __future__ import annotations

from voxella.detection import Facts
from voxella.importers.phantom.detector import Sighting
from voxella.importers.phantom.truth import Truth

__all__ = ["found_by", "told_by"]

_SUSPICIOUS = 3  # PI-RADS category from which a lesion counts as present


def told_by(truth: Truth) -> Facts:
    """Return what a phantom's report tells: side, zone and size where it names one lesion.

    Foci of category 2 are told as unsuspicious, and count as no lesion.
    """
    lesions = [lesion for lesion in truth.lesions if lesion.pirads >= _SUSPICIOUS]
    if len(lesions) != 1:
        return Facts(present=bool(lesions))
    lesion = lesions[0]
    return Facts(True, lesion.side, lesion.zone, lesion.diameter_mm)


def found_by(sighting: Sighting) -> Facts:
    """Return what was found in a volume."""
    return Facts(sighting.present, sighting.side, sighting.zone, sighting.size_mm)
