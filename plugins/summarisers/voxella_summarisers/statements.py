"""A pathology report to statements: its sections, and within them sentences and list items."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Statement", "statements"]

# Section by how its heading begins; the first that fits. What comes before any is "other".
_HEADINGS = (
    ("diagnosis", r"(?:final\s+)?(?:pathologic(?:al)?\s+)?diagnos[ie]s(?:\s*\(continued\))?"),
    ("comment", r"comments?|notes?"),
    ("micro", r"microscop(?:y|ic)(?:\s+(?:description|examination))?"),
    ("synoptic", r"synoptic(?:\s+\w+)?|tumou?r\s+summary|summary"),
    ("clinical", r"clinical\s+(?:diagnosis\s+and\s+history|diagnosis|history|information)|history"),
    ("clinical", r"pre-?operative\s+diagnosis|post-?operative\s+diagnosis"),
    ("gross", r"gross(?:\s+description)?|macroscop(?:y|ic)(?:\s+description)?"),
    ("gross", r"intra-?operative\s+(?:consultation|diagnosis)|frozen\s+section(?:\s+diagnosis)?"),
    ("specimen", r"specimens?(?:\(s\))?(?:\s+received)?|race|physician\s*\(\s*s?\s*\)"),
)
# A heading ends in a colon, or stands at the beginning of a line or sentence with a full stop.
_HEADING = re.compile(
    r"(?:(?:^|(?<=[\s.]))(?:"
    + "|".join(f"(?P<s{n}>{pattern})" for n, (_, pattern) in enumerate(_HEADINGS))
    + r")\s*(?:#\s*)?(?::|(?<=\w)\.(?=\s+[A-Z])))",
    re.IGNORECASE,
)
_BULLET = re.compile(r"(?:(?<=\s)|^)[-\u2022*]+\s*(?=[A-Za-z(])")
_PART = re.compile(r"(?<=[.:;])\s+(?=[A-Z](?:\s*[&,-]\s*[A-Z])?\.\s+[A-Z]{3,})")
# A full stop ends a sentence where a capital, a digit or a bracket follows; but scanned text has
# one at the end of every line.
_END = re.compile(r"(?<=[a-zA-Z)%\d][.;])\s+(?=[A-Z(\d])")
_DANGLING = re.compile(
    r"(?:\b(?:from|with|the|by|of|and|or|in|is|to|for|a|an|on|at|combined)|[,/(])[.;]?$",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"(?:[a-z(]|(?:in|of|from|with|and|or|by|to|for|within|on|at|measuring|margin)\b)",
)
_GOES_ON_CAPITAL = re.compile(r"(?:IN|OF|FROM|WITH|AND|OR|BY|TO|FOR|WITHIN|ON|AT|MEASURING)\b")


@dataclass(frozen=True)
class Statement:
    """A sentence or list item.

    Attributes:
        text: With single spaces, without a bullet or full stop at its end.
        section: ``diagnosis``, ``comment``, ``micro``, ``synoptic``, ``clinical``, ``gross``,
            ``specimen`` or ``other``.
        place: Its number within the report.
    """

    text: str
    section: str
    place: int


def statements(report: str) -> list[Statement]:
    """Return a report's statements in order."""
    found: list[Statement] = []
    for section, text in _sections(report):
        for piece in _pieces(text):
            found.append(Statement(piece, section, len(found)))
    return found


def _sections(report: str) -> list[tuple[str, str]]:
    text = re.sub(r"\s*\n\s*", " \n", report.strip())
    parts: list[tuple[str, str]] = []
    section, begin = "other", 0
    for heading in _HEADING.finditer(text):
        parts.append((section, text[begin : heading.start()]))
        number = next(int(name[1:]) for name, value in heading.groupdict().items() if value)
        section, begin = _HEADINGS[number][0], heading.end()
    parts.append((section, text[begin:]))
    return [(name, part) for name, part in parts if part.strip()]


def _pieces(text: str) -> list[str]:
    """Return the sentences and items of a section."""
    items = []
    for item in _BULLET.split(" ".join(text.split())):
        for part in _PART.split(item):
            items += _joined(_END.split(part))
    return [clean for item in items if (clean := item.strip().rstrip(".;, ")) and len(clean) > 2]


def _joined(sentences: list[str]) -> list[str]:
    """Put together again what a line's end has cut."""
    whole: list[str] = []
    for sentence in sentences:
        before = whole[-1] if whole else ""
        cut = before and (
            _DANGLING.search(before)
            or before.count("(") > before.count(")")
            or _GOES_ON.match(sentence)
            or _GOES_ON_CAPITAL.match(sentence)
        )
        if cut:
            whole[-1] = f"{before.rstrip('.;')} {sentence}"
        else:
            whole.append(sentence)
    return whole
