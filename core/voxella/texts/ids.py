"""Ids of cases and patients: what may not stand in one, and when two may be one.

Two patients who are one stand in two splits sooner or later, and a model is tested on whom it was
trained on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["alike", "comparable_id", "id_problem", "trimmed"]

# Control and format characters, line and paragraph separators, private use, halves of surrogates.
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Co", "Cs", "Cn"})
# Not of a format category, and just as blank.
_BLANK = "\u115f\u1160\u3164\uffa0\u2800\u034f"
_EDGES = re.compile(r"^[\s\ufeff\u200b-\u200f\u2060\u00ad]+|[\s\ufeff\u200b-\u200f\u2060\u00ad]+$")
# Cyrillic and Greek letters that look like Latin ones; a hospital's keyboard writes either.
_TWINS = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0455\u0458"
    "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",
    "abekmhopctyxisjabezhikmnoptyx",
)
_SCIENTIFIC = re.compile(r"[+-]?\d(?:[.,]\d+)?[eE][+]\d{1,3}")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_WHOLE = re.compile(r"(?<=\d)[.,]0+$")
# Between digits they part numbers: 1-12 is not 11-2.
_PARTING = re.compile(r"(?<=\d)[\s_\-./\\]+(?=\d)")
_LOOSE = re.compile(r"[\s_\-./\\]+(?!\d)|(?<!\d)[\s_\-./\\]+")


def trimmed(cell: str) -> str:
    """Return a cell without white space, and marks that cannot be seen, at its ends."""
    return _EDGES.sub("", cell)


def id_problem(name: str) -> str | None:
    """Return what makes a name no id that two people would write alike, or None; never quotes it.

    A number in scientific notation is one of which a spreadsheet has dropped digits.
    """
    for character in name:
        if unicodedata.category(character) in _UNSEEN or character in _BLANK:
            return f"holds a character that cannot be seen (U+{ord(character):04X}); remove it"
    if _SCIENTIFIC.fullmatch(name):
        return "is a number in scientific notation: a spreadsheet has dropped digits of it"
    return None


def comparable_id(name: str) -> str:
    """Return what is equal for ids that differ in case, Unicode form, padding or parting only.

    ``P-007``, ``p 7``, ``P_7`` and ``P7.0`` are alike; so are letters of other alphabets that look
    like Latin ones.
    """
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_TWINS)
    seen = "".join(c for c in plain if unicodedata.category(c) not in _UNSEEN and c not in _BLANK)
    bare = _LOOSE.sub("", _PARTING.sub(":", _WHOLE.sub("", seen.strip())))
    return _ZEROS.sub("", bare) or bare


def alike(names: Iterable[str]) -> list[list[str]]:
    """Return groups of different names that are alike, each sorted, in the order first met."""
    groups: dict[str, dict[str, None]] = {}
    for name in names:
        groups.setdefault(comparable_id(name), {})[name] = None
    return [sorted(group) for group in groups.values() if len(group) > 1]
