"""Identifiers left in reports, found by rules: counted and located, never shown.

Rules find what has the form of an identifier. A name without a title or label, a place, a rare
disease are beyond them: a report in which nothing is found is not thereby anonymous.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from voxella.check.finding import Finding
from voxella.check.identifier_patterns import (
    DATES,
    EMAIL,
    LABELLED_PHONE,
    NAMES,
    NUMBERS,
    PHONES,
)
from voxella.check.kinds_texts import text_finding
from voxella.check.report_files import report_range

__all__ = ["Identifier", "IdentifierKind", "check_identifiers", "find_identifiers"]

IdentifierKind = Literal["e-mail address", "date", "telephone number", "number", "name"]
_PHONE_DIGITS = range(9, 16)
# b-values stand in rows that look like telephone numbers.
_B_VALUES = re.compile(
    r"\bb[- ]?(?:values?|waarden?|werte?|fa[ck]tor\w{0,2})?\s?[=:]?[\d ,/-]{0,40}$", re.I
)


@dataclass(frozen=True, order=True)
class Identifier:
    """One likely identifier: where it stands, in characters, and its kind. Not what it says."""

    start: int
    end: int
    kind: IdentifierKind


def find_identifiers(text: str) -> tuple[Identifier, ...]:
    """Return the likely identifiers of a report, in order and without overlap.

    Found are names after a title ("Dr.", "dhr.", "Frau") or a label ("Radioloog:"), dates with a
    day or a month, seven and more digits in a row, numbers of persons, DICOM UIDs, telephone
    numbers and e-mail addresses. Placeholders (Dr. X, Mr. XYZ) and single letters are left alone,
    and so are days without a month's name or a year: image references look the same.
    """
    taken = bytearray(len(text))
    kept: list[Identifier] = []
    for found in _candidates(text):
        if not any(taken[found.start : found.end]):
            taken[found.start : found.end] = b"\1" * (found.end - found.start)
            kept.append(found)
    return tuple(sorted(kept))


def check_identifiers(texts: Mapping[str, str]) -> list[Finding]:
    """Locate every likely identifier by case id and character range, and count them all."""
    findings: list[Finding] = []
    counts: Counter[str] = Counter()
    cases = 0
    for case, text in texts.items():
        identifiers = find_identifiers(text)
        cases += bool(identifiers)
        for found in identifiers:
            counts[found.kind] += 1
            where = report_range(found.start, found.end)
            findings.append(
                text_finding("report.identifier", f"looks like a {found.kind}", case, where)
            )
    if findings:
        kinds = ", ".join(f"{kind}: {counts[kind]}" for kind in get_args(IdentifierKind))
        problem = f"{len(findings)} likely identifiers in {cases} of {len(texts)} reports ({kinds})"
        findings.append(text_finding("report.identifiers", problem))
    return findings


def _candidates(text: str) -> Iterator[Identifier]:
    """Yield what may be an identifier, the surest kinds first."""
    for match in EMAIL.finditer(text):
        yield Identifier(*match.span(), "e-mail address")
    for pattern in DATES:
        for match in pattern.finditer(text):
            yield Identifier(*match.span(), "date")
    for match in LABELLED_PHONE.finditer(text):
        yield Identifier(*match.span("found"), "telephone number")
    for pattern in PHONES:
        for match in pattern.finditer(text):
            if _is_phone(text, match):
                yield Identifier(*match.span(), "telephone number")
    for pattern in NUMBERS:
        for match in pattern.finditer(text):
            yield Identifier(*match.span(), "number")
    for pattern in NAMES:
        for match in pattern.finditer(text):
            yield Identifier(*match.span("found"), "name")


def _is_phone(text: str, match: re.Match[str]) -> bool:
    digits = sum(character.isdigit() for character in match[0])
    before = _B_VALUES.search(text, max(0, match.start() - 50), match.start())
    return digits in _PHONE_DIGITS and before is None
