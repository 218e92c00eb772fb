"""Whether volumes show what they were asked to show: told facts against found ones.

Presence counts over all cases. Side, zone and size count where a lesion is told and one is found:
among those who miss the lesion they have no meaning, and presence has counted them already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voxella.detection import Facts
from voxella.metrics.bootstrap import bootstrap
from voxella.metrics.estimate import LEVEL, Estimate, joined, wilson
from voxella.metrics.resampling import Rows, has_repeats

__all__ = ["FACTS", "Pair", "adherence", "no_better_than_chance"]

FACTS = ("presence", "presence_sensitivity", "presence_specificity", "side", "zone", "size")


@dataclass(frozen=True)
class Pair:
    """A volume: what its text tells and what was found in it.

    Attributes:
        patient: Cases of one patient are not independent.
        told: By the text.
        found: In the volume.
    """

    patient: str
    told: Facts
    found: Facts


def adherence(
    pairs: Sequence[Pair],
    *,
    tolerance_mm: float,
    seed: int,
    name: str,
    replicates: int = 1000,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Return the share of volumes that agree with their text, for each of :data:`FACTS`.

    Wilson's intervals; where a patient has several volumes, a bootstrap over patients. Each note
    says what the best constant answer, which reads no text, would reach.

    Args:
        pairs: In any order.
        tolerance_mm: By how much a found size may differ from the told one.
        seed: With ``name``, decides the bootstrap's draws.
        name: Of these volumes.
        replicates: Draws.
        level: Coverage.
    """
    ordered = sorted(pairs, key=lambda pair: (pair.patient, repr(pair)))
    found: dict[str, Estimate] = {}
    for fact in FACTS:
        rows = [pair for pair in ordered if _counts(fact, pair)]
        hits = np.array([_agrees(fact, pair, tolerance_mm) for pair in rows], dtype=bool)
        patients = [pair.patient for pair in rows]
        estimate = _share(hits, patients, seed, f"{name}/{fact}", replicates, level, _EMPTY[fact])
        remark = _constant(fact, rows, tolerance_mm)
        found[fact] = replace(estimate, note=joined(estimate.note, remark))
    return found


def no_better_than_chance(pairs: Sequence[Pair], presence: Estimate) -> str | None:
    """Return why a detector's presence accuracy on known volumes carries no number, or None.

    Args:
        pairs: Known volumes, what is true of them as what is told.
        presence: The detector's accuracy on them.
    """
    if presence.value is None or presence.low is None:
        return f"the detector was not measured on real phantoms ({presence.note})"
    positive = sum(pair.told.present for pair in pairs) / len(pairs)
    chance = max(positive, 1 - positive, 0.5)
    if presence.low > chance:
        return None
    return (
        f"the detector is right about the lesion's presence in {presence.value:.0%} of "
        f"{len(pairs)} real phantoms on this grid ({presence.level:.0%} interval from "
        f"{presence.low:.0%}), where always giving the commoner answer is in {chance:.0%}: it "
        "carries no number"
    )


_EMPTY = {
    "presence": "no volume was made from a report",
    "presence_sensitivity": "no report tells of a lesion",
    "presence_specificity": "every report tells of a lesion",
    **dict.fromkeys(
        ("side", "zone", "size"), "no volume shows a lesion whose report tells of exactly one"
    ),
}


def _counts(fact: str, pair: Pair) -> bool:
    if fact == "presence":
        return True
    if fact == "presence_sensitivity":
        return pair.told.present
    if fact == "presence_specificity":
        return not pair.told.present
    told, seen = (_value(fact, facts) for facts in (pair.told, pair.found))
    return pair.told.present and pair.found.present and told is not None and seen is not None


def _value(fact: str, facts: Facts) -> str | float | None:
    return {"side": facts.side, "zone": facts.zone, "size": facts.size_mm}[fact]


def _agrees(fact: str, pair: Pair, tolerance_mm: float) -> bool:
    if fact.startswith("presence"):
        return pair.told.present == pair.found.present
    told, seen = (_value(fact, facts) for facts in (pair.told, pair.found))
    if isinstance(told, float) and isinstance(seen, float):
        return abs(told - seen) <= tolerance_mm
    return told == seen


def _share(
    hits: NDArray[np.bool_],
    patients: Sequence[str],
    seed: int,
    name: str,
    replicates: int,
    level: float,
    why: str,
) -> Estimate:
    if len(hits) == 0 or not has_repeats(patients):
        return wilson(int(hits.sum()), len(hits), level=level, why=why)

    def share(drawn: Rows) -> float:
        return float(hits[drawn].mean())

    return bootstrap(share, patients, seed=seed, name=name, replicates=replicates, level=level)


def _constant(fact: str, rows: Sequence[Pair], tolerance_mm: float) -> str | None:
    """Say what an answer that is the same for every volume reaches at best."""
    if not rows or fact in ("presence_sensitivity", "presence_specificity"):
        return None
    if fact == "size":
        sizes = [pair.told.size_mm for pair in rows if pair.told.size_mm is not None]
        # The best window starts at some size.
        best = max(sum(0 <= size - low <= 2 * tolerance_mm for size in sizes) for low in sizes)
    else:
        told = [
            pair.told.present if fact == "presence" else _value(fact, pair.told) for pair in rows
        ]
        best = Counter(told).most_common(1)[0][1]
    return f"one answer for all would reach {best / len(rows):.3g}"
