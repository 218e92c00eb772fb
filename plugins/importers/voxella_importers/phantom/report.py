"""A case's facts to a radiologist's free text, in varied wording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxella_importers.phantom import lesion_wording, wording
from voxella_importers.phantom.facts import CaseFacts
from voxella_importers.phantom.lesions import Lesion
from voxella_importers.phantom.settings import ReportStyle, stream

__all__ = ["write_report"]

_PIRADS_FORMS = (
    "PI-RADS {score}",
    "PIRADS {score}",
    "PI-RADS category {score}",
    "PI-RADS score {score}",
    "PI-RADS {score}/5",
    "PI-RADS v2.1: {score}",
    "PI-RADS assessment category {score}",
)


@dataclass(frozen=True)
class _Voice:
    """One radiologist's habits: how this report is worded throughout.

    Attributes:
        rng: Of the report.
        centimetres: Sizes of lesions in cm, else in mm.
        pirads: How a category is written.
        score_in_findings: Whether findings name the category, or the impression alone.
        length: 0 terse, 1 usual, 2 thorough.
    """

    rng: np.random.Generator
    centimetres: bool
    pirads: str
    score_in_findings: bool
    length: int

    def pick(self, options: Sequence[str]) -> str:
        """Return one of the options."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        """Return True in a share of the cases."""
        return bool(self.rng.random() < share)

    def score(self, category: int) -> str:
        """Return a category as this radiologist writes it."""
        return self.pirads.format(score=category)

    def size(self, lesion: Lesion) -> str:
        """Return a lesion's largest diameter with its unit."""
        millimetres = round(lesion.size_mm)
        return f"{millimetres / 10:.1f} cm" if self.centimetres else f"{millimetres} mm"

    def place(self, lesion: Lesion) -> str:
        """Return side, zone and level of a lesion."""
        options = lesion_wording.PLACE_MIDLINE if lesion.side == "midline" else lesion_wording.PLACE
        return self.pick(options).format(
            side=lesion.side,
            zone=self.pick(lesion_wording.ZONE[lesion.zone]),
            level=self.pick(lesion_wording.LEVEL[lesion.level]),
        )


def write_report(facts: CaseFacts, style: ReportStyle = "free") -> str:
    """Return the report of a case: a function of its facts, whether or not it is to have one.

    Says the gland's volume, each lesion's side, zone, level, size and category, and what is clear;
    never anything that the facts do not hold. A ``short`` one says no more than the volume, the
    lesions and the category.
    """
    rng = stream(facts.seed, facts.id, "report")
    voice = _Voice(
        rng=rng,
        centimetres=bool(rng.random() < 0.3),
        pirads=_PIRADS_FORMS[int(rng.integers(len(_PIRADS_FORMS)))],
        score_in_findings=bool(rng.random() < 0.6),
        length=int(rng.choice([0, 1, 2], p=[0.25, 0.5, 0.25])),
    )
    if style == "short":
        return _short(facts, voice)
    sections = [
        _clinical(facts, voice),
        voice.pick(wording.TECHNIQUE).format(tesla=f"{facts.scan.tesla:g}"),
        " ".join(_findings(facts, voice)),
        _impression(facts, voice),
    ]
    return _assemble(sections, voice)


def _short(facts: CaseFacts, voice: _Voice) -> str:
    volume = voice.pick(wording.SHORT_VOLUME).format(volume=round(facts.patient.gland.volume_ml))
    parts = [_short_lesion(lesion, voice) for lesion in facts.lesions]
    if not parts:
        score = voice.score(facts.pirads)
        parts = [voice.pick(lesion_wording.SUMMARY_NONE).format(pirads=score, Pirads=score)]
    return " ".join([volume, *parts]) + "\n"


def _short_lesion(lesion: Lesion, voice: _Voice) -> str:
    place = voice.place(lesion)
    score = voice.score(lesion.pirads)
    return voice.pick(lesion_wording.SHORT).format(
        place=place, Place=_capital(place), pirads=score, size=voice.size(lesion)
    )


def _assemble(sections: list[str], voice: _Voice) -> str:
    """Join the sections under one set of headings, sometimes with the impression first."""
    headings = wording.HEADINGS[int(voice.rng.integers(len(wording.HEADINGS)))]
    order = [3, 0, 1, 2] if headings[3] and voice.chance(0.15) else [0, 1, 2, 3]
    if voice.length == 0:
        order.remove(int(voice.rng.integers(2)))  # a terse report leaves one of the first two out
    between = "\n" if voice.chance(0.5) else " "
    parts = [f"{headings[n]}{between if headings[n] else ''}{sections[n]}" for n in order]
    return ("\n\n" if voice.chance(0.6) else "\n").join(parts) + "\n"


def _clinical(facts: CaseFacts, voice: _Voice) -> str:
    return voice.pick(wording.CLINICAL).format(
        age=facts.patient.age, psa=facts.psa, history=voice.pick(wording.HISTORY)
    )


def _findings(facts: CaseFacts, voice: _Voice) -> list[str]:
    """Return the findings: gland and lesions first, then the surroundings in any order."""
    lesions = [_lesion(lesion, voice) for lesion in facts.lesions]
    gland = [_volume(facts, voice), _central(facts, voice), _peripheral(facts, voice)]
    if voice.length == 0 and lesions:
        gland = gland[:1]
    if facts.pirads < 3 and (not lesions or voice.chance(0.5)):
        lesions.append(voice.pick(lesion_wording.NO_LESION))
    first = [*lesions, *gland] if voice.chance(0.2) else [*gland, *lesions]
    return [*first, *_surroundings(facts, voice)]


def _volume(facts: CaseFacts, voice: _Voice) -> str:
    gland = facts.patient.gland
    sides = (2 * gland.a, 2 * gland.b, 2 * gland.c)
    return voice.pick(wording.VOLUME).format(
        volume=round(gland.volume_ml),
        dimensions=" x ".join(f"{side / 10:.1f}" for side in sides),
        density=f"{facts.psa / gland.volume_ml:.2f}",
    )


def _enlargement(facts: CaseFacts) -> int:
    """Return 0, 1 or 2 by the gland's volume: below 35 ml, below 60 ml, above."""
    volume = facts.patient.gland.volume_ml
    return int(volume >= 35.0) + int(volume >= 60.0)


def _central(facts: CaseFacts, voice: _Voice) -> str:
    return voice.pick(wording.TRANSITION[_enlargement(facts)])


def _peripheral(facts: CaseFacts, voice: _Voice) -> str:
    involved = any(lesion.zone == "peripheral" for lesion in facts.lesions)
    options = wording.PERIPHERAL_OTHERWISE if involved else wording.PERIPHERAL
    name = voice.pick(("peripheral zone", "PZ"))
    return voice.pick(options).format(pz=name, Pz=_capital(name))


def _lesion(lesion: Lesion, voice: _Voice) -> str:
    category = max(lesion.pirads, 2)
    options = lesion_wording.FOCUS if category == 2 else lesion_wording.LESION
    signal = voice.pick(lesion_wording.SIGNAL[category][lesion.zone])
    place = voice.place(lesion)
    score = f", {voice.score(lesion.pirads)}" if voice.score_in_findings else ""
    return voice.pick(options).format(
        signal=signal,
        Signal=_capital(signal),
        place=place,
        Place=_capital(place),
        size=voice.size(lesion),
        score=score,
    )


def _surroundings(facts: CaseFacts, voice: _Voice) -> list[str]:
    contact = any(found.zone == "peripheral" and found.pirads == 5 for found in facts.lesions)
    capsule = lesion_wording.CAPSULE_CONTACT if contact else lesion_wording.CAPSULE_CLEAR
    fill = int(facts.bladder > 0.35) + int(facts.bladder > 0.65)
    sentences = [
        voice.pick(capsule),
        voice.pick(wording.VESICLES),
        voice.pick(wording.NODES),
        voice.pick(wording.BONES),
        voice.pick(wording.BLADDER[fill]),
        voice.pick(wording.RECTUM[facts.rectum]),
    ]
    kept = sentences[: (2, 4, 6)[voice.length]]
    return [kept[int(n)] for n in voice.rng.permutation(len(kept))]


def _impression(facts: CaseFacts, voice: _Voice) -> str:
    if facts.lesions:
        parts = [_summary(lesion, voice) for lesion in facts.lesions]
        if len(parts) > 1 and voice.chance(0.5):
            parts = [f"{number}. {part}" for number, part in enumerate(parts, start=1)]
    else:
        score = voice.score(facts.pirads)
        parts = [voice.pick(lesion_wording.SUMMARY_NONE).format(pirads=score, Pirads=score)]
    if _enlargement(facts) == 2 and voice.chance(0.5):
        parts.append(voice.pick(wording.BENIGN))
    if facts.pirads >= 4 and voice.length and voice.chance(0.6):
        parts.append(voice.pick(wording.CLOSING))
    return ("\n" if voice.chance(0.3) else " ").join(parts)


def _summary(lesion: Lesion, voice: _Voice) -> str:
    place, score = voice.place(lesion), voice.score(lesion.pirads)
    suspicion = voice.pick(lesion_wording.SUSPICION[max(lesion.pirads, 2)])
    return voice.pick(lesion_wording.SUMMARY).format(
        place=place,
        Place=_capital(place),
        pirads=score,
        Pirads=score,
        size=voice.size(lesion),
        suspicion=suspicion,
    )


def _capital(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]
