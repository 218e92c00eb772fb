"""``adherence_*``: whether volumes made from reports show the lesions that these tell of.

``adherence_reconstructed_*`` is the same of real volumes after the autoencoder: what cannot be
told there, no model on its latents can show.

What a report tells and what a volume shows, a probe says: the one that is named as where the cases'
labels come from. Its accuracy on real cases of this data set, on this grid, stands beside every
number; where it is not clearly above chance, there is no number. Where no probe knows the cases,
there is no such metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from voxella.autoencoder.load import AutoencoderPlan
from voxella.case import Manifest
from voxella.detection import Detection, Facts
from voxella.errors import UserError
from voxella.evaluation.detections import (
    DetectionJob,
    UnknownEdgesError,
    detections,
    reconstructed_detections,
)
from voxella.evaluation.sets import Sets, Subject, probe_for
from voxella.metrics.adherence import FACTS, LEVELS, Pair, facts_of, no_better_than_chance
from voxella.metrics.adherence import adherence as agreement
from voxella.metrics.declared.measured import Measured, reason
from voxella.metrics.estimate import Estimate, joined
from voxella.plugins.contracts import Probe
from voxella.recipe.evaluation import Evaluate
from voxella.workspace.folders import Folders

__all__ = ["AdherenceSettings", "adherence"]

# Real cases that the probe is measured on: its accuracy is then known within some 9 %.
_REAL_CASES = 120
_DETECTOR = "detector"
_AFTER = "adherence_reconstructed_"


@dataclass(frozen=True)
class AdherenceSettings:
    """What a recipe says of it.

    Attributes:
        settings: Tolerance of sizes, and how sure the numbers are to be.
        seed: Of every draw.
        channel: Which of a case's images is looked at, or the first of its colours.
        reads_reports: Whether the model does.
        autoencoder: Whose reconstructions are looked at.
        count: Channels that are looked at: three of an image in colour.
    """

    settings: Evaluate
    seed: int
    channel: int
    reads_reports: bool
    autoencoder: AutoencoderPlan
    count: int = 1


def adherence(
    asked: AdherenceSettings, folders: Folders, sets: Sets, device: torch.device
) -> dict[str, Measured]:
    """Return ``adherence_*`` of one data set, nothing where no probe knows the real cases.

    The ``floor`` of each is the probe's own agreement with real cases: what perfect volumes would
    reach, within its interval.

    Args:
        asked: What the recipe says.
        folders: Of the run; the data set keeps what is known of the cases.
        sets: Who takes part.
        device: Where the autoencoder computes.
    """
    probe, level = probe_for(sets), asked.settings.level
    if probe is None:
        return {}
    try:
        truths = _told(probe, folders, sets)
    except UserError as problem:
        return _nothing(level, sets, reason(problem), FACTS)
    if not truths:
        return {}
    facts = facts_of(truths.values())
    if len(asked.autoencoder.latent.size) not in probe.spatial_dims:
        dims = " or ".join(f"{number}D" for number in sorted(probe.spatial_dims))
        return _nothing(level, sets, f"the probe looks at {dims} images alone", facts)
    if not asked.reads_reports:
        return _nothing(level, sets, "the model reads no report", facts)
    told = [s for s in sets.synthetic if _reads_report(s) and s.source and s.source.id in truths]
    if not told:
        why = "no volume was made from the report of a case that the probe knows"
        return _nothing(level, sets, why, facts)
    real = _real(sets, truths)
    shared = folders.work / folders.evaluation.name / _DETECTOR
    own = folders.evaluation / _DETECTOR
    try:
        known, _ = _pairs(probe, asked, shared, real, truths)
        pairs, remark = _pairs(probe, asked, own, told, truths)
    except UnknownEdgesError as problem:
        return _nothing(level, sets, reason(problem), facts)
    best = _agreement(asked, known, facts, "detector")
    # A level stands for itself; the facts of a lesion stand and fall with its presence.
    refusals = {
        fact: no_better_than_chance(known, best[judge], judge)
        for fact in facts
        for judge in [fact if fact in LEVELS else "presence"]
    }
    found = _agreement(asked, pairs, facts, f"adherence/{sets.split}")
    after = (
        {}
        if all(refusals.values())
        else _reconstructed(probe, asked, folders.autoencoder, shared, real, truths, device)
    )
    for fact, refusal in refusals.items():
        if refusal is not None:
            found[fact] = Estimate.undefined(len(pairs), refusal)
            after[fact] = Estimate.undefined(len(real), refusal)
    return {
        f"adherence_{fact}": Measured(
            replace(estimate, note=joined(estimate.note, remark)), sets.split, floor=best[fact]
        )
        for fact, estimate in found.items()
    } | {
        f"{_AFTER}{fact}": Measured(estimate, _splits(real), floor=best[fact])
        for fact, estimate in after.items()
    }


def _reconstructed(
    probe: Probe,
    asked: AdherenceSettings,
    trained: Path,
    kept: Path,
    real: Sequence[Subject],
    truths: dict[str, Facts],
    device: torch.device,
) -> dict[str, Estimate]:
    """Return what the probe finds of the real cases after the autoencoder."""
    facts, channels = facts_of(truths.values()), (asked.channel, asked.count)
    try:
        seen = reconstructed_detections(
            probe, asked.autoencoder, trained, real, channels, kept, device
        )
    except UserError as problem:
        return dict.fromkeys(facts, Estimate.undefined(len(real), reason(problem)))
    pairs = _told_and_found(real, truths, seen)
    found = _agreement(asked, pairs, facts, "detector/reconstructed")
    for fact in facts if facts != FACTS else ("presence",):
        remark = _blind(seen)
        if no_better_than_chance(pairs, found[fact], fact) is not None:
            told = "no better than chance after the autoencoder, whatever model follows"
            remark = joined(remark, told)
        found[fact] = replace(found[fact], note=joined(found[fact].note, remark))
    return found


def _blind(seen: Sequence[Detection]) -> str | None:
    blind = sum(detection.blind for detection in seen)
    told = f"in {blind} of {len(seen)} images the detector found nothing to look into"
    return told if blind else None


def _splits(subjects: Sequence[Subject]) -> str:
    splits = {subject.case.split for subject in subjects}
    return splits.pop() if len(splits) == 1 else "all"


def _nothing(level: float, sets: Sets, why: str, facts: Sequence[str]) -> dict[str, Measured]:
    nothing = Estimate.undefined(0, why, level=level)
    return {
        f"{start}{fact}": Measured(nothing, sets.split)
        for start in ("adherence_", _AFTER)
        for fact in facts
    }


def _told(probe: Probe, folders: Folders, sets: Sets) -> dict[str, Facts]:
    """Return by case id what is told of the real cases that the probe knows."""
    try:
        imported = Manifest.read(folders.dataset)
    except UserError:
        return {}
    wanted = {s.id for side in (sets.real, sets.training, sets.unseen) for s in side}
    told = {case.id: probe.told(imported, case) for case in imported if case.id in wanted}
    return {name: facts for name, facts in told.items() if facts is not None}


def _reads_report(subject: Subject) -> bool:
    return subject.case.extra.get("prompt_sha256") is not None


def _real(sets: Sets, truths: dict[str, Facts]) -> list[Subject]:
    """Return real cases to measure the probe on: those compared with first."""
    ordered = {s.id: s for side in (sets.real, sets.unseen, sets.training) for s in side}
    return [subject for name, subject in ordered.items() if name in truths][:_REAL_CASES]


def _pairs(
    probe: Probe,
    asked: AdherenceSettings,
    kept: Path,
    subjects: Sequence[Subject],
    truths: dict[str, Facts],
) -> tuple[list[Pair], str | None]:
    """Return what is told and seen of each, and a remark where some show nothing."""
    channel, count = asked.channel, asked.count
    seen = detections([DetectionJob(probe, s, channel, kept, count=count) for s in subjects])
    return _told_and_found(subjects, truths, seen), _blind(seen)


def _told_and_found(
    subjects: Sequence[Subject], truths: dict[str, Facts], seen: Sequence[Detection]
) -> list[Pair]:
    return [
        Pair(subject.group, truths[_source(subject)], detection.found)
        for subject, detection in zip(subjects, seen, strict=True)
    ]


def _source(subject: Subject) -> str:
    return subject.id if subject.source is None else subject.source.id


def _agreement(
    asked: AdherenceSettings, pairs: Sequence[Pair], facts: Sequence[str], name: str
) -> dict[str, Estimate]:
    return agreement(
        pairs,
        facts=facts,
        tolerance_mm=asked.settings.size_tolerance_mm,
        seed=asked.seed,
        name=name,
        replicates=asked.settings.bootstrap,
        level=asked.settings.level,
    )
