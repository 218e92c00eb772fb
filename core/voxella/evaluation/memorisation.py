"""Memorisation: is a synthetic volume a training patient's? In latent space and in image space.

Held-out real cases tell how near chance brings a new patient to the training cases. Without them
nothing can be told, and nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from typing_extensions import TypedDict

from voxella.errors import UserError
from voxella.evaluation.sets import Sets
from voxella.evaluation.volumes import read_subject
from voxella.files import write_json_atomic
from voxella.imaging.montage import enlarged, montage, write_png
from voxella.metrics.declared.measured import Measured, reason
from voxella.metrics.estimate import Estimate
from voxella.metrics.memorisation import Memorisation, NearestCase, memorisation
from voxella.metrics.near_duplicates import NearDuplicates, beyond_chance
from voxella.metrics.vectors import VectorSet
from voxella.workspace.state import StateFile, sealed

__all__ = [
    "SPACES",
    "MemorisationResult",
    "Space",
    "measure_memorisation",
    "show_pairs",
    "write_pairs",
]

SPACES = ("latent", "image")
_SHOWN = 10
# By name in memorisation.json: some hundred bytes each.
_KEPT = 10_000


class _Pairs(TypedDict):
    unseen_split: str | None
    unseen: int
    spaces: dict[str, dict[str, Any]]


MEMORISATION: StateFile[dict[str, Any]] = StateFile(
    _Pairs, "rm {path} {folder}/stage.json, then voxella evaluate RECIPE with the same --out"
)
_PICTURE_PAIRS = 5
_PIXELS = 960


@dataclass(frozen=True, eq=False)
class Space:
    """The three sets as vectors of one space, or why there are none.

    Attributes:
        synthetic: One vector a case.
        training: The same.
        unseen: The same.
    """

    synthetic: VectorSet
    training: VectorSet
    unseen: VectorSet


@dataclass(frozen=True)
class MemorisationResult:
    """What was found in all spaces.

    Attributes:
        metrics: ``copies_share_*`` and ``copies_beyond_chance_*``.
        facts: For ``memorisation.json``.
        pairs: The worst pairs by space.
    """

    metrics: dict[str, Measured] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    pairs: dict[str, tuple[NearestCase, ...]] = field(default_factory=dict)


def measure_memorisation(
    level: float, sets: Sets, spaces: dict[str, Space | str], device: torch.device
) -> MemorisationResult:
    """Look for copies in each space.

    Args:
        level: Of every interval.
        sets: Who takes part.
        spaces: Vectors by space, or why there are none.
        device: Where products are computed.
    """
    found = MemorisationResult()
    split = sets.unseen_split or "none"
    for name, space in spaces.items():
        looked = _looked(level, sets, space, device)
        floor = None
        if isinstance(looked, str):
            nothing = Estimate.undefined(len(sets.generated), looked, level=level)
            suspected = certain = nothing
            found.facts[name] = {"note": looked}
        else:
            near, beyond = looked
            suspected, certain = near.share, beyond.share
            how = "share of new real cases below the threshold, by its choice"
            floor = Estimate(near.false_alarms, None, None, len(sets.unseen), level, how)
            facts = {**near.as_json(), "beyond_chance": beyond.as_json()}
            # People read the worst; whoever looks through the volumes wants each one's.
            facts["nearest"], facts["worst"] = facts["worst"], facts["worst"][:_SHOWN]
            found.facts[name] = facts
            found.pairs[name] = near.worst[:_SHOWN]
        found.metrics[f"copies_share_{name}"] = Measured(suspected, split, floor=floor)
        found.metrics[f"copies_beyond_chance_{name}"] = Measured(certain, split)
    return found


def _looked(
    level: float, sets: Sets, space: Space | str, device: torch.device
) -> tuple[Memorisation, NearDuplicates] | str:
    """Return suspected and certain copies, or why there is no telling."""
    if isinstance(space, str):
        return space
    sources = {s.id: s.source.id for s in sets.generated if s.source is not None}
    of = (space.synthetic, space.training, space.unseen)
    try:
        return (
            memorisation(*of, sources=sources or None, shown=_KEPT, level=level, device=device),
            beyond_chance(*of, level=level, device=device),
        )
    except UserError as refusal:
        return reason(refusal)


def write_pairs(out: Path, found: MemorisationResult, sets: Sets) -> Path:
    """Write ``memorisation.json``: the worst pairs by id, thresholds and shares."""
    facts = {"unseen_split": sets.unseen_split, "unseen": len(sets.unseen), "spaces": found.facts}
    return write_json_atomic(out / "memorisation.json", sealed(facts))


def show_pairs(
    out: Path, pairs: Sequence[NearestCase], sets: Sets, name: str, channels: int = 1
) -> Path:
    """Draw the worst pairs, synthetic left, right the ratio and its nearest training case.

    Args:
        out: Folder of the picture.
        pairs: Worst first.
        sets: Who takes part.
        name: Of the space.
        channels: Of the first sequence, which is drawn: 1, or 3 in colours.
    """
    by_id = {s.id: s for side in (sets.generated, sets.training) for s in side}
    shown = [by_id[case] for p in pairs[:_PICTURE_PAIRS] for case in (p.synthetic, p.training)]
    volumes = [read_subject(subject)[:channels].numpy() for subject in shown]
    spacings = [_spacing(subject.case.extra.get("spacing_mm")) for subject in shown]
    labels = [
        label
        for pair in pairs[:_PICTURE_PAIRS]
        for label in (pair.synthetic, f"{pair.ratio:.2f} {pair.training}")
    ]
    picture = montage(volumes, spacings, labels=labels, columns=2)
    return write_png(out / f"copies-{name}.png", enlarged(picture, _PIXELS))


def _spacing(known: Sequence[float] | None) -> list[float]:
    given = list(known or [])
    return [*given, *[1.0] * (3 - len(given))]
