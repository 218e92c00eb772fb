"""Where a report names PI-RADS, and which scores stand directly after the name.

The grammar is narrow on purpose: name, then any of version, keywords and punctuation, then a
category or a few of them. What does not fit is kept as a mention in doubt, never guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Mention", "Score", "find_mentions"]


@dataclass(frozen=True)
class Score:
    """One category as it stands in the text: its value, 1 to 5, and its character range."""

    value: int
    start: int
    end: int


@dataclass(frozen=True)
class Mention:
    """One place that names PI-RADS. Holds offsets and numbers, no text.

    Attributes:
        start: Of the name.
        end: After the last thing that was read.
        scores: Categories that follow; several for "4-5" or "3 and 4".
        doubt: Whether what follows could not be read for certain: a bound ("at least 3"), a range
            over both classes, a question mark, a number that fits nothing.
    """

    start: int
    end: int
    scores: tuple[Score, ...]
    doubt: bool

    @property
    def highest(self) -> int | None:
        """Return its highest category, None where none could be read."""
        return max((score.value for score in self.scores), default=None)


_HYPHEN = r"\-\u00ad\u2010-\u2015\u2212"
# With its common misspellings; one that is missed might be the highest.
_NAME = re.compile(
    rf"(?<![^\W_])p[\s.]?[il]?[\s{_HYPHEN}_.]{{0,3}}(?:rads?|rasd|rdas)"
    r"(?=[\W_\d]|v[\s.\d]|version|versie|$)",
    re.I,
)
_SPACE = r"(?:[^\S\n]|\n(?![^\S\n]*\n))"
_UNIT = (
    r"(?:mm|cm|ml|cc|tesla|t\b(?!\d)|%|uur|uhr|o['\u2019]clock|minut|jaar|jahre|years?\b|monate?n?\b"
    r"|maanden|months?\b|[x\u00d7]\s?\d)"
)
# What may stand between the name and the category.
_BETWEEN = re.compile(
    rf"""\(\s?1\s?[{_HYPHEN}/]\s?5\s?\)
    | {_SPACE}+ | [®™:=|"'*_\[\]()…{_HYPHEN}] | \.{{2,}}
    | (?:v|vs|ver|vers|version|versie)\.?\s?[12](?:[.,]\d)?(?![\d]|[.,]\d)
    | [12][.,][01](?!\d|[.,]\d|\s?{_UNIT})
    | (?:overall|total|totaal|gesamt|max(?:imum|imal[e]?|imaal|imale)?\b\.?|highest|hoogste
      |höchste[rn]?|final|eind|assessment|risk|risico|risiko|suspicion|level|stufe
      |(?:gesamt|totaal|eind)?scor(?:es?|ing)|punkt(?:e|zahl)?|categor(?:y|ies|ie[ën]?)
      |kategorien?|cat\b\.?|kat\b\.?|classifi(?:cation|catie)|klassifi(?:kation|katie|zierung)
      |class|klasse|grad(?:e|ing)?|graad|wert|waarde|value|rating|of|van|von|is|ist)
      (?![^\W\d_])""",
    re.I | re.X,
)
_BETWEEN_AT_MOST = 24
_ROMAN = {"II": 2, "III": 3, "IV": 4, "V": 5}
_CATEGORY = re.compile(
    rf"([1-5])(?![^\W_])(?!\s?[.,]\d)(?!\s?(?i:{_UNIT}))|(II|III|IV|V)(?![^\W_]|\s?\.?\d)"
)
_OUT_OF_FIVE = re.compile(r"\s?(?:/|(?:out\s)?of|van|von|op|uit|aus)\s?5(?![^\W_]|[.,]\d)", re.I)
_JOIN = re.compile(
    rf"\s?(?:[/{_HYPHEN}]|(?:,\s?)?(?:to|tot|bis|and|en|und|or|of|oder|&)\s)\s?", re.I
)
_BOUND_BEFORE = re.compile(
    r"(?:[<>≤≥]=?|at least|at most|up to|more than|less than|ten ?minste|minstens|hoogstens"
    r"|mindestens|höchstens|bis zu)\s?",
    re.I,
)
# A bound, an addition ("3+1"), an arrow or a question mark after the category.
_BOUND_AFTER = re.compile(
    r"\s?(?:\+|\(?\?|[≥≤<>→⇒➔]|[-=]>|(?:,\s?)?(?:or|and|of|en|oder|und)\s"
    r"(?:higher|greater|more|above|lower|less|below|hoger|meer|lager|minder|höher|mehr|niedriger))",
    re.I,
)
_PLURAL = re.compile(r"\s(?:lesions|la?esies|läsionen|foci|herde|areas|afwijkingen)\b", re.I)
# A lone digit that may be a category, not a number in a list at a line's start, not a quantity.
_LONE = re.compile(
    rf"(?<![\w.,/])(?<![.,]\s)(?:(?<!\n)|(?!\d[.)]\s))\d(?![^\W_]|[.,]\d|\s?{_UNIT})", re.I
)
_ODD = re.compile(
    r"(?!\.?\s*\n\s*\d{1,2}[.)]\s)[\s.:;,(]*(?:\d(?!\d?[\s-]sector)|[XV]\b|I\b|(?:one|two|three|four|five|een|één|twee|drie|vier|vijf|eins|zwei"
    r"|drei|fünf|i{1,3}|iv)\b)",
    re.I,
)
_STOP = re.compile(r"[.!?](?=\s+[^\W\d_]|\s*$)|\n\s*\n")


def find_mentions(text: str) -> list[Mention]:
    """Return every place that names PI-RADS, in order."""
    return [_mention(text, match.start(), match.end()) for match in _NAME.finditer(text)]


def _mention(text: str, start: int, named: int) -> Mention:
    place = named
    for _ in range(_BETWEEN_AT_MOST):
        between = _BETWEEN.match(text, place)
        if between is None:
            break
        place = between.end()
    bound = _BOUND_BEFORE.match(text, place)
    scores, end = _categories(text, bound.end() if bound else place)
    if not scores:
        return Mention(start, place, (), bound is not None or _unread(text, start, place))
    values = [score.value for score in scores]
    doubt = (
        bound is not None
        or min(values) < 3 <= max(values)
        or _BOUND_AFTER.match(text, end) is not None
        or _counts_lesions(text, named, scores[0])
        or _after_lone_version(text, place, scores[0])
        or _starts_list(text, named, scores[0])
    )
    return Mention(start, end, tuple(scores), doubt)


def _categories(text: str, place: int) -> tuple[list[Score], int]:
    """Read a category and those joined to it; return them and where they end."""
    scores: list[Score] = []
    while (match := _CATEGORY.match(text, place)) and len(scores) < 5:
        value = int(match[1]) if match[1] else _ROMAN[match[2]]
        scores.append(Score(value, match.start(), match.end()))
        end = match.end()
        if out_of := _OUT_OF_FIVE.match(text, end):
            return scores, out_of.end()
        join = _JOIN.match(text, end)
        if join is None:
            return scores, end
        place = join.end()
    return scores, scores[-1].end if scores else place


def _unread(text: str, start: int, place: int) -> bool:
    """Return whether a category may stand near a name that none could be read after."""
    if _ODD.match(text, place):
        return not re.match(rf"[\s.:;,(]*\d\s?{_UNIT}", text[place : place + 30], re.I)
    stop = _STOP.search(text, place)
    after = text[place : min(place + 80, stop.start() if stop else len(text))]
    before = re.split(r"[.!?]\s|\n\s*\n|\n", text[max(0, start - 40) : start])[-1]
    return _LONE.search(after) is not None or _LONE.search(before) is not None


def _counts_lesions(text: str, named: int, first: Score) -> bool:
    """Return whether the number may count lesions: "PI-RADS: 2 lesions, both 4"."""
    return ":" in text[named : first.start] and _PLURAL.match(text, first.end) is not None


def _after_lone_version(text: str, place: int, first: Score) -> bool:
    """Return whether the number may be a version: "PI-RADS 2 score 4"."""
    return first.value <= 2 and bool(
        re.match(
            r"[\s(]{0,2}(?:score|categor|kategor|class|klass|grad)\w{0,6}\s?[:=]?\s?[1-5]\b",
            text[first.end : first.end + 30],
            re.I,
        )
    )


def _starts_list(text: str, named: int, first: Score) -> bool:
    """Return whether the number may be a list's: "1. Volume" on the line after the name."""
    if "\n" not in text[named : first.start]:
        return False
    return re.match(r"[.)][^\S\n]+\S", text[first.end : first.end + 4]) is not None
