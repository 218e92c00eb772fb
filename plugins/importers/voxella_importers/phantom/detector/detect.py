"""Which lesion a prepared or generated phantom volume shows, read off the volume alone.

An analytic detector: it finds the gland by fitting the phantom's anatomy, then holds the known
shapes of lesions against the tissue about them. It has no trained weights; its few constants come
from how phantoms are drawn and were set on phantoms of seed 1000. How often it is right, and where
it is blind, is in ``docs/reference/phantom.md``; whoever reports what it found reports that too.

What a phantom's report tells and what the detector found, in the same words.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxella.detection import Facts
from voxella_importers.phantom.detector.lesions import Candidate, best_lesion
from voxella_importers.phantom.detector.pose import Pose, find_gland
from voxella_importers.phantom.gland import Zone
from voxella_importers.phantom.lesions import Side
from voxella_importers.phantom.truth import Truth

__all__ = ["DETECTOR", "LesionDetection", "found_by", "look_for_lesion", "told_by"]

# Raise this whenever the same volume gives another sighting.
DETECTOR = 1

# Log likelihood ratio above which a lesion is there: at voxels of no size, and by how much less for
# each mm of their edges, since large voxels hold less evidence.
_THRESHOLD, _THRESHOLD_MM, _LEAST_THRESHOLD = 2.2, 0.26, 0.8
# Correlation of the volume with the fitted anatomy below which there is no gland to look into.
_LEAST_SIMILARITY = 0.5
_MIDLINE = 0.12  # a lesion this near the midline, as a share of the gland's half width, is on it

_SUSPICIOUS = 3  # PI-RADS category from which a lesion counts as present


@dataclass(frozen=True)
class LesionDetection:
    """What a volume shows.

    Attributes:
        present: A lesion that counts as suspicious (PI-RADS 3 or more) is seen.
        side: Of the likeliest lesion, seen or not; None where there is nothing to look into.
        zone: Likewise.
        size_mm: Its largest diameter, likewise.
        score: Log likelihood ratio of a lesion against none.
        similarity: Correlation of the volume with the fitted anatomy about the gland.
        volume_ml: Of the gland.
    """

    present: bool
    side: Side | None
    zone: Zone | None
    size_mm: float | None
    score: float
    similarity: float
    volume_ml: float

    @property
    def gland_seen(self) -> bool:
        """Return whether the volume shows a phantom's gland at all."""
        return self.similarity >= _LEAST_SIMILARITY

    def as_json(self) -> dict[str, Any]:
        """Return the sighting as JSON-ready data."""
        return asdict(self)


def look_for_lesion(
    image: NDArray[np.floating], spacing_mm: tuple[float, float, float]
) -> LesionDetection:
    """Look for the likeliest lesion.

    Args:
        image: T2-like intensities ``(R, A, S)`` in [0, 1] on the recipe's grid, its field of view
            centred on the gland within a few millimetres.
        spacing_mm: Voxel edges along R, A, S. What is smaller than a voxel cannot be seen.
    """
    pose = find_gland(image, spacing_mm)
    likeliest = (
        best_lesion(image, spacing_mm, pose) if pose.similarity >= _LEAST_SIMILARITY else None
    )
    if likeliest is None:
        return LesionDetection(False, None, None, None, 0.0, pose.similarity, pose.gland.volume_ml)
    return LesionDetection(
        likeliest.score > _threshold(spacing_mm),
        _side(likeliest, pose),
        "peripheral" if likeliest.peripheral else "transition",
        likeliest.size_mm,
        likeliest.score,
        pose.similarity,
        pose.gland.volume_ml,
    )


def _threshold(spacing_mm: tuple[float, float, float]) -> float:
    return max(_THRESHOLD - _THRESHOLD_MM * math.prod(spacing_mm) ** (1 / 3), _LEAST_THRESHOLD)


def _side(lesion: Candidate, pose: Pose) -> Side:
    x = lesion.centre[0]
    if not lesion.peripheral and abs(x) < _MIDLINE * pose.gland.a:
        return "midline"
    return "right" if x > 0 else "left"


def told_by(truth: Truth) -> Facts:
    """Return what a phantom's report tells: side, zone and size where it names one lesion.

    Foci of category 2 are told as unsuspicious, and count as no lesion.
    """
    lesions = [lesion for lesion in truth.lesions if lesion.pirads >= _SUSPICIOUS]
    if len(lesions) != 1:
        return Facts(present=bool(lesions))
    lesion = lesions[0]
    return Facts(True, lesion.side, lesion.zone, lesion.diameter_mm)


def found_by(detection: LesionDetection) -> Facts:
    """Return what was found in a volume."""
    return Facts(detection.present, detection.side, detection.zone, detection.size_mm)
