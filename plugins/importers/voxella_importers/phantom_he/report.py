"""A slide's facts to a pathologist's free text, in varied wording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from voxella_importers.phantom.settings import stream
from voxella_importers.phantom_he import wording
from voxella_importers.phantom_he.facts import SlideFacts

__all__ = ["write_report"]

_Phrases = Mapping[bool, Sequence[str]]


class _Voice:
    """One pathologist's habits: how this report is worded throughout."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.capitals = bool(rng.random() < 0.35)
        self.millimetres = bool(rng.random() < 0.3)
        self.dashes = bool(rng.random() < 0.5)
        self.terse = bool(rng.random() < 0.25)

    def pick(self, options: Sequence[str]) -> str:
        """Return one of the options."""
        return options[int(self.rng.integers(len(options)))]

    def length(self, millimetres: int) -> str:
        """Return a length with its unit."""
        return f"{millimetres} mm" if self.millimetres else f"{millimetres / 10:.1f} cm"


def write_report(seed: int, facts: SlideFacts) -> str:
    """Return the report of a slide: a function of (seed, slide), and never more than is so.

    Names type, grade and its scores, size, nodes, receptors and HER2; a terse report leaves out
    some of the rest.
    """
    voice = _Voice(stream(seed, facts.id, "report"))
    specimen, diagnosis, comment, clinical, gross = wording.HEADINGS[
        int(voice.rng.integers(len(wording.HEADINGS)))
    ]
    side = {"side": facts.side, "Side": facts.side.capitalize()}
    parts = [
        specimen + voice.pick(wording.SPECIMEN).format(**side),
        diagnosis + _diagnosis(facts, voice),
    ]
    if voice.rng.random() < 0.4:
        parts.append(comment + voice.pick(wording.LYMPHOCYTES[facts.brisk]))
    if not voice.terse:
        parts.append(clinical + voice.pick(wording.CLINICAL))
        parts.append(gross + voice.pick(wording.GROSS))
    return ("\n\n" if voice.rng.random() < 0.6 else "\n").join(parts) + "\n"


def _diagnosis(facts: SlideFacts, voice: _Voice) -> str:
    lines = [
        *_tumour(facts, voice),
        *_spread(facts, voice),
        *_receptors(facts, voice),
    ]
    if not voice.terse:
        lines.append(voice.pick(wording.ADDITIONAL))
    if voice.capitals:
        lines = [line.upper() for line in lines]
    return ("\n- " if voice.dashes else " ").join(["", *lines]).strip()


def _tumour(facts: SlideFacts, voice: _Voice) -> list[str]:
    kind = voice.pick(wording.KIND[facts.kind])
    grade = voice.pick(wording.GRADE[facts.grade])
    tubules, nuclei, mitoses = facts.scores
    named = voice.pick(wording.TYPE).format(kind=kind, Kind=_capital(kind))
    scored = voice.pick(wording.SCORE).format(
        grade=grade,
        Grade=_capital(grade),
        total=sum(facts.scores),
        tubules=tubules,
        nuclei=nuclei,
        mitoses=mitoses,
    )
    sized = voice.pick(wording.SIZE).format(size=voice.length(facts.size_mm))
    said = [named, scored, sized]
    for phrases, present in ((wording.NECROSIS, facts.necrosis), (wording.IN_SITU, facts.in_situ)):
        if present or not voice.terse:
            said.append(voice.pick(phrases[present]))
    if voice.rng.random() < 0.7:
        said.append(voice.pick(wording.LYMPHOCYTES[facts.brisk]))
    return said


def _spread(facts: SlideFacts, voice: _Voice) -> list[str]:
    nodes = voice.pick(wording.NODES[facts.positive_nodes > 0]).format(
        positive=facts.positive_nodes, nodes=facts.nodes
    )
    margin = voice.pick(wording.MARGIN[facts.margin_mm > 0]).format(
        margin=voice.length(facts.margin_mm)
    )
    said = [voice.pick(wording.VESSELS[facts.vessels]), margin, nodes]
    return [said[int(n)] for n in voice.rng.permutation(3)]


def _receptors(facts: SlideFacts, voice: _Voice) -> list[str]:
    said = []
    for name, short, percent in (("estrogen", "ER", facts.er), ("progesterone", "PR", facts.pr)):
        phrase = voice.pick(wording.RECEPTOR[percent > 0])
        said.append(phrase.format(Name=name.capitalize(), Short=short, percent=percent))
    return [*said, voice.pick(wording.HER2[facts.her2])]


def _capital(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]
