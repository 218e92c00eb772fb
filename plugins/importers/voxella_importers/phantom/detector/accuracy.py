"""How often the detector is right on real phantoms by grid: tables of docs/reference/phantom.md.

``python -m voxella_importers.phantom.detector.accuracy SEED CASES R A S``
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from voxella.imaging.prepare import prepare_images
from voxella.imaging.volume import Volume
from voxella.metrics.adherence import Pair, adherence
from voxella.recipe.model import Prepare
from voxella_importers.phantom.detector.detect import (
    LesionDetection,
    found_by,
    look_for_lesion,
    told_by,
)
from voxella_importers.phantom.facts import draw_facts
from voxella_importers.phantom.importer import PhantomImporter
from voxella_importers.phantom.plugin import phantom
from voxella_importers.phantom.settings import PhantomSettings
from voxella_importers.phantom.truth import Truth, truth_of
from voxella_importers.phantom.volume import render

__all__ = ["accuracy_table", "look_at_phantom"]

_TOLERANCE_MM = 5.0
_USAGE = "usage: python -m voxella_importers.phantom.detector.accuracy SEED CASES R A S"


def look_at_phantom(
    settings: PhantomSettings, index: int, size: Sequence[int]
) -> tuple[Truth, LesionDetection]:
    """Draw, render and prepare one phantom in memory, and look at it.

    Args:
        settings: The phantom's.
        index: Of the case.
        size: Voxels of the prepared grid, which is 128 x 128 x 96 mm.
    """
    facts = draw_facts(settings, index)
    volume = render(facts, settings.size)
    raw = Volume(volume.image.astype(np.float32), np.asarray(volume.affine, np.float64))
    prepare = Prepare(crop_mm=[128.0, 128.0, 96.0], size=list(size))
    prepared = prepare_images({"t2w": raw}, prepare)
    r, a, s = (float(edge) for edge in prepared.facts["spacing_mm"])
    seen = look_for_lesion(prepared.images["t2w"], (r, a, s))
    return truth_of(facts, files={}, settings_sha256=""), seen


def accuracy_table(looked: Sequence[tuple[Truth, LesionDetection]]) -> list[str]:
    """Return lines: agreement of sightings with truths, then presence by conspicuity and size."""
    pairs = [Pair(truth.patient, told_by(truth), found_by(seen)) for truth, seen in looked]
    found = adherence(pairs, tolerance_mm=_TOLERANCE_MM, seed=0, name="accuracy")
    lines = [f"{fact}: {estimate}; {estimate.note or ''}" for fact, estimate in found.items()]
    groups: dict[str, Callable[[Truth], bool]] = {
        "no lesion": lambda truth: not truth.lesions,
        "benign focus": lambda truth: bool(truth.lesions) and truth.pirads == 2,
        "conspicuity 0.40 to 0.58": lambda truth: truth.pirads >= 3 and _strength(truth) < 0.6,
        "conspicuity 0.62 to 0.80": lambda truth: 0.6 <= _strength(truth) < 0.8,
        "conspicuity 0.80 to 1.00": lambda truth: _strength(truth) >= 0.8,
        "peripheral": lambda truth: truth.pirads >= 3 and truth.lesions[0].zone == "peripheral",
        "transition": lambda truth: truth.pirads >= 3 and truth.lesions[0].zone == "transition",
        "below 10 mm": lambda truth: truth.pirads >= 3 and _largest(truth) < 10,
        "10 to 15 mm": lambda truth: truth.pirads >= 3 and 10 <= _largest(truth) < 15,
        "15 mm and more": lambda truth: truth.pirads >= 3 and _largest(truth) >= 15,
    }
    for name, belongs in groups.items():
        called = [seen.present for truth, seen in looked if belongs(truth)]
        lines.append(f"{name}: a lesion is seen in {sum(called)} of {len(called)}")
    return lines


def _strength(truth: Truth) -> float:
    return max((lesion.conspicuity for lesion in truth.lesions), default=0.0)


def _largest(truth: Truth) -> float:
    return max(lesion.diameter_mm for lesion in truth.lesions)


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(_USAGE)
    seed, cases, *grid = (int(word) for word in sys.argv[1:])
    importer = phantom(cases=cases, seed=seed)
    assert isinstance(importer, PhantomImporter)  # phantom() promises the protocol alone
    seen_of = [look_at_phantom(importer.settings, index, grid) for index in range(cases)]
    print("\n".join(accuracy_table(seen_of)))
