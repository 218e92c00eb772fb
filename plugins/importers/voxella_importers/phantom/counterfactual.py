"""A phantom once more with one fact changed: side, presence, size of its lesion, or its volume.

All other facts and the seed stay, so the two images differ by that fact alone; where the fact is
the volume, the textures of the gland are drawn anew, for there are other voxels to fill. A report
says what follows from the fact as well: of a larger lesion its category, of a larger gland its
nodules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from voxella.case import Case, Manifest
from voxella.detection import Counterfactual, Version
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.workspace.record import RECORDS
from voxella.workspace.state import RECORD
from voxella_importers.phantom.facts import CaseFacts, draw_facts, draw_positive_lesion
from voxella_importers.phantom.importer import PhantomImporter
from voxella_importers.phantom.lesions import Lesion, Side, draw_lesion_at, resized
from voxella_importers.phantom.report import write_report
from voxella_importers.phantom.settings import PhantomSettings, ReportStyle, stream
from voxella_importers.phantom.volume import render

_Scanned = tuple[NDArray[np.float32], NDArray[np.float64]]

__all__ = ["SMALL_AND_LARGE_ML", "counterfactuals", "mirrored"]

# Of the lognormal distribution that volumes are drawn from, about its 25th and its 90th percentile.
SMALL_AND_LARGE_ML = (32.0, 76.0)
# The large lesion is at least so much larger than the small one.
_LEAST_RATIO = 1.5


@dataclass(frozen=True)
class _Pair:
    """Facts of a case before and after the change, as a function of the draw."""

    fact: str
    facts: Callable[[int], tuple[CaseFacts, CaseFacts]]


def counterfactuals(dataset: Manifest, case: Case) -> list[Counterfactual]:
    """Return one counterfactual for each fact that can be changed of a case.

    Raises:
        UserError: The data set's record cannot be read.
    """
    settings = _settings(dataset)
    if settings is None:
        return []
    facts = draw_facts(settings, int(case.id.rpartition("-")[2]))
    lesion = _lesion_of(facts, settings)
    pairs = [_Pair("volume", partial(_volumes, facts))]
    pairs.append(_Pair("presence", partial(_presence, facts, lesion)))
    if lesion.side != "midline":
        pairs.append(_Pair("side", partial(_sides, facts, lesion)))
    sizes = _small_and_large(facts, lesion, settings)
    if sizes is not None:
        pairs.append(_Pair("size", partial(_sizes, facts, sizes)))
    return [_counterfactual(pair, case, settings) for pair in pairs]


def mirrored(lesion: Lesion) -> Lesion:
    """Return a lesion on the other side, mirrored in the gland's midline plane."""
    x, y, z = lesion.centre
    side: Side = "left" if lesion.side == "right" else "right"
    return replace(lesion, side=side, centre=(-x, y, z), yaw=-lesion.yaw)


def _settings(dataset: Manifest) -> PhantomSettings | None:
    """Return how the data set was made; None where no record says it."""
    record = RECORDS.read(dataset.folder / RECORD) or {}
    told = record.get("inputs", {}).get("importer")
    if told is None or told.get("name") != "phantom":
        return None
    importer = registry.build("importers", Component.model_validate(told))
    return importer.settings if isinstance(importer, PhantomImporter) else None


def _lesion_of(facts: CaseFacts, settings: PhantomSettings) -> Lesion:
    """Return the case's own first suspicious lesion, or one drawn for it where it has none."""
    own = [lesion for lesion in facts.lesions if lesion.pirads >= 3]
    if own:
        return own[0]
    rng = stream(facts.seed, facts.id, "counterfactual")
    return draw_positive_lesion(rng, facts.patient.gland, settings)


def _small_and_large(
    facts: CaseFacts, lesion: Lesion, settings: PhantomSettings
) -> tuple[Lesion, Lesion] | None:
    """Return the lesion as small and as large as settings and gland allow; None: about the same."""
    low, high = settings.lesion_size_mm
    fitting = [resized(facts.patient.gland, lesion, size) for size in range(low, high + 1)]
    found = [one for one in fitting if one is not None]
    if not found or found[-1].size_mm < _LEAST_RATIO * found[0].size_mm:
        return None
    return found[0], found[-1]


def _presence(facts: CaseFacts, lesion: Lesion, draw: int) -> tuple[CaseFacts, CaseFacts]:
    base = _redrawn(facts, draw)
    return replace(base, lesions=()), replace(base, lesions=(_elsewhere(base, lesion, draw),))


def _sides(facts: CaseFacts, lesion: Lesion, draw: int) -> tuple[CaseFacts, CaseFacts]:
    base = _redrawn(facts, draw)
    here = _elsewhere(base, lesion, draw)
    right, left = (here, mirrored(here)) if here.side == "right" else (mirrored(here), here)
    return replace(base, lesions=(right,)), replace(base, lesions=(left,))


def _sizes(
    facts: CaseFacts, sizes: tuple[Lesion, Lesion], draw: int
) -> tuple[CaseFacts, CaseFacts]:
    base = _redrawn(facts, draw)
    small, large = sizes
    # A place with room for the large one has room for the small one.
    there = _elsewhere(base, large, draw)
    moved = resized(base.patient.gland, there, round(small.size_mm))
    return replace(base, lesions=(moved or small,)), replace(
        base, lesions=(there if moved else large,)
    )


def _volumes(facts: CaseFacts, draw: int) -> tuple[CaseFacts, CaseFacts]:
    base = _redrawn(replace(facts, lesions=()), draw)
    small, large = (_of_volume(base, volume) for volume in SMALL_AND_LARGE_ML)
    return small, large


def _of_volume(facts: CaseFacts, volume_ml: float) -> CaseFacts:
    gland = facts.patient.gland
    scale = (volume_ml / gland.volume_ml) ** (1 / 3)
    grown = replace(
        gland, a=gland.a * scale, b=gland.b * scale, c=gland.c * scale, bend=gland.bend * scale
    )
    return replace(facts, patient=replace(facts.patient, gland=grown))


def _redrawn(facts: CaseFacts, draw: int) -> CaseFacts:
    """Return the case with other textures and noise; draw 0 are its own."""
    return facts if draw == 0 else replace(facts, id=f"{facts.id}/{draw}")


def _elsewhere(facts: CaseFacts, lesion: Lesion, draw: int) -> Lesion:
    """Return the lesion at another place that is told in the same words; draw 0 is its own."""
    if draw == 0:
        return lesion
    rng = stream(facts.seed, facts.id, "counterfactual place")
    return draw_lesion_at(rng, facts.patient.gland, lesion) or lesion


def _counterfactual(pair: _Pair, case: Case, settings: PhantomSettings) -> Counterfactual:
    style = settings.report_style
    before, after = (_version(case, facts, style) for facts in pair.facts(0))
    return Counterfactual(pair.fact, before, after, partial(_images, pair, settings.size))


def _version(case: Case, facts: CaseFacts, style: ReportStyle) -> Version:
    told = {"volume": facts.patient.gland.volume_ml}
    known = {name: value for name, value in case.conditions.items() if value is not None}
    conditions = {name: told.get(name, value) for name, value in known.items()}
    return Version(write_report(facts, style), facts.true_class, conditions)


def _images(pair: _Pair, size: tuple[int, ...], draw: int) -> tuple[_Scanned, _Scanned]:
    before, after = (_drawn(facts, size) for facts in pair.facts(draw))
    return before, after


def _drawn(facts: CaseFacts, size: tuple[int, ...]) -> _Scanned:
    made = render(facts, size)
    return made.image.astype(np.float32), made.affine.astype(np.float64)
