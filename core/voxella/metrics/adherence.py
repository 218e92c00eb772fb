"""Whether volumes show what they were asked to show: told facts against found ones.

Presence counts over all cases. Side, zone and size count where a lesion is told and one is found:
among those who miss the lesion they have no meaning, and presence has counted them already. Where
texts tell levels (much or little tumour), these are what is compared, each where it is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voxella.detection import Facts
from voxella.metrics.bootstrap import bootstrap
from voxella.metrics.estimate import LEVEL, Estimate, joined, wilson
from voxella.metrics.resampling import Rows, has_repeats

__all__ = ["FACTS", "LEVELS", "Pair", "adherence", "facts_of", "no_better_than_chance"]

FACTS = ("presence", "presence_sensitivity", "presence_specificity", "side", "zone", "size")
# Of `Facts.levels`: those that metrics are declared for.
LEVELS = ("tumor", "til")


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


def facts_of(told: Iterable[Facts]) -> tuple[str, ...]:
    """Return what is compared: the levels that any text tells, or else :data:`FACTS`."""
    named = {name for facts in told for name in facts.levels}
    return tuple(name for name in LEVELS if name in named) or FACTS


def adherence(
    pairs: Sequence[Pair],
    *,
    facts: Sequence[str] = FACTS,
    tolerance_mm: float,
    seed: int,
    name: str,
    replicates: int = 1000,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Return the share of volumes that agree with their text, for each of ``facts``.

    Wilson's intervals; where a patient has several volumes, a bootstrap over patients. Each note
    says what the best constant answer, which reads no text, would reach.

    Args:
        pairs: In any order.
        facts: Of :data:`FACTS` and :data:`LEVELS`.
        tolerance_mm: By how much a found size may differ from the told one.
        seed: With ``name``, decides the bootstrap's draws.
        name: Of these volumes.
        replicates: Draws.
        level: Coverage.
    """
    ordered = sorted(pairs, key=lambda pair: (pair.patient, repr(pair)))
    found: dict[str, Estimate] = {}
    for fact in facts:
        rows = [pair for pair in ordered if _counts(fact, pair)]
        hits = np.array([_agrees(fact, pair, tolerance_mm) for pair in rows], dtype=bool)
        patients = [pair.patient for pair in rows]
        estimate = _share(hits, patients, seed, f"{name}/{fact}", replicates, level, _EMPTY[fact])
        remark = _constant(fact, rows, tolerance_mm)
        found[fact] = replace(estimate, note=joined(estimate.note, remark))
    return found


def no_better_than_chance(
    pairs: Sequence[Pair], right: Estimate, fact: str = "presence"
) -> str | None:
    """Return why a detector's accuracy on known volumes carries no number, or None.

    Args:
        pairs: Known volumes, what is true of them as what is told.
        right: The detector's accuracy on them, in ``fact``.
        fact: Presence, or one of :data:`LEVELS`.
    """
    if right.value is None or right.low is None:
        return f"the detector was not measured on real phantoms ({right.note})"
    told = [_value(fact, pair.told) for pair in pairs if _counts(fact, pair)]
    chance = max(Counter(told).most_common(1)[0][1] / len(told), 0.5)
    if right.low > chance:
        return None
    what = "the lesion's presence" if fact == "presence" else f"the level of {fact}"
    return (
        f"the detector is right about {what} in {right.value:.0%} of "
        f"{len(told)} real phantoms on this grid ({right.level:.0%} interval from "
        f"{right.low:.0%}), where always giving the commoner answer is in {chance:.0%}: it "
        "carries no number"
    )


_EMPTY = {
    "presence": "no volume was made from a report",
    "presence_sensitivity": "no report tells of a lesion",
    "presence_specificity": "every report tells of a lesion",
    **dict.fromkeys(
        ("side", "zone", "size"), "no volume shows a lesion whose report tells of exactly one"
    ),
    **dict.fromkeys(LEVELS, "no text tells this level"),
}


def _counts(fact: str, pair: Pair) -> bool:
    if fact == "presence":
        return True
    if fact in LEVELS:
        return fact in pair.told.levels
    if fact == "presence_sensitivity":
        return pair.told.present
    if fact == "presence_specificity":
        return not pair.told.present
    told, seen = (_value(fact, facts) for facts in (pair.told, pair.found))
    return pair.told.present and pair.found.present and told is not None and seen is not None


def _value(fact: str, facts: Facts) -> str | float | None:
    if fact in LEVELS:
        return facts.levels.get(fact)
    if fact == "presence":
        return facts.present
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
        told = [_value(fact, pair.told) for pair in rows]
        best = Counter(told).most_common(1)[0][1]
    return f"one answer for all would reach {best / len(rows):.3g}"
