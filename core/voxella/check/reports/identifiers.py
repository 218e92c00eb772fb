"""Identifiers left in reports, found by rules: counted and located, never shown.

Rules find what has the form of an identifier. A name without a title or label, a place, a rare
disease are beyond them: a report in which nothing is found is not thereby anonymous.

What identifiers look like in English, Dutch and German reports: dates, numbers, names.

Measurements, section numbers, image references and classifications must not look like one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding
from voxella.check.reports.files import report_range

__all__ = ["Identifier", "IdentifierKind", "check_identifiers", "find_identifiers"]

IdentifierKind = Literal["e-mail address", "date", "telephone number", "number", "name"]
_PHONE_DIGITS = range(9, 16)
# b-values stand in rows that look like telephone numbers.
_B_VALUES = re.compile(
    r"\bb[- ]?(?:values?|waarden?|werte?|fa[ck]tor\w{0,2})?\s?[=:]?[\d ,/-]{0,40}$", re.I
)

_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_ALONE, _ENDS = r"(?<![\w./-])(?<!\d,)", r"(?![\w/]|[-.,]\d)(?!\s?(?:mm|cm|ml|min|sec)\b)"
_NAMED_MONTH = (
    r"(?:january?|januari?|jan|jänner|february|februari?|feb|march|maart|märz|mrz|mrt|mar|april|apr|mei"
    r"|mai|june?|juni?|july?|juli?|augustus|august|aug|september|sept?|october|oktober|oct|okt"
    r"|november|nov|december|dezember|dec|dez"
    # "May" may be a verb: only with a day or year after it, or as a name after a plain number.
    rf"|(?:may(?=,?\s(?:of\s)?(?:{_DAY},?\s)?{_YEAR}))"
    rf"|(?-i:May(?=\s{_DAY}(?![\w/]|[.,]\d))|(?<=\d\s)May(?!\s[a-z])))"
)
DATES = (
    # 12-03-2021, 12.03.2021, 3/12/2021
    re.compile(
        rf"{_ALONE}(?:{_DAY}\s?([-/.])\s?{_MONTH}|{_MONTH}\s?([-/.])\s?{_DAY})"
        rf"\s?(?:\1|\2)\s?{_YEAR}{_ENDS}"
    ),
    # 2021-03-12, 2021/03/12, with or without a time
    re.compile(rf"{_ALONE}{_YEAR}([-/.]){_MONTH}\1{_DAY}(?:T\d\d:\d\d(?::\d\d)?)?{_ENDS}"),
    # 02/10/06, 02-10-06, 02.10.06: with two digits each, for 2.1.10 is a section
    re.compile(
        rf"{_ALONE}(?:(?:0[1-9]|[12]\d|3[01])([-.])(?:0[1-9]|1[0-2])\1|{_MONTH}/{_DAY}/|{_DAY}/{_MONTH}/)"
        rf"\d\d{_ENDS}"
    ),
    # 12 maart 2021, 12. März, 9th of November 2021
    re.compile(
        rf"{_ALONE}{_DAY}(?:\.|st|nd|rd|th|e)?\s(?:of\s)?{_NAMED_MONTH}(?![^\W\d_])"
        rf"(?:\.?,?\s(?:of\s)?{_YEAR}(?!\d))?",
        re.I,
    ),
    # March 12 2021, July 3rd
    re.compile(
        rf"(?<![^\W_]){_NAMED_MONTH}\.?\s{_DAY}(?:st|nd|rd|th)?(?:(?:,\s?|\s){_YEAR})?"
        r"(?![\w]|[.,]\d)"
        r"(?!\s?(?:mm|cm|ml|min|sec)\b)",
        re.I,
    ),
    # June 2005, June of 2005
    re.compile(rf"(?<![^\W_]){_NAMED_MONTH}\.?,?\s(?:of\s)?{_YEAR}(?!\d)", re.I),
    # 3/2008, and 2 10 2024
    re.compile(rf"{_ALONE}{_MONTH}[/-]{_YEAR}{_ENDS}"),
    re.compile(rf"{_ALONE}{_DAY}\s{_MONTH}\s{_YEAR}{_ENDS}"),
)

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}")

# Each is held to 9 to 15 digits.
PHONES = (
    re.compile(
        r"(?<![\w+])(?:\+|00)[1-9]\d{0,2}(?:[ /-]?\(0\))?"
        r"[ /-]?\(?\d{1,12}\)?(?:(?:[ /-]|(?<=\)))\(?\d{1,12}\)?){0,5}(?![\w]|[.,]\d)"
    ),
    re.compile(
        r"(?<![\w.,/-])\(?0\d{1,4}\)?(?:\s?[-/]\s?|\s)\d{2,8}(?:[ -]\d{2,4}){0,4}"
        r"(?![\w]|[.,]\d)"
    ),
    re.compile(r"(?<![\w.,-])(?:\([2-9]\d{2}\)\s?|[2-9]\d{2}[-. ])\d{3}[-.]\d{4}(?![\w]|[-.,]\d)"),
)
LABELLED_PHONE = re.compile(
    r"(?<![^\W_])(?:tel|telefoon|telephone|telefon|phone|fax|mobile?|mobiel|mobil|pager|sein)"
    r"(?:nr|nummer|number|no)?\.?:?\s{0,2}(?:nr|no)?\.?:?\s?"
    r"(?P<found>\+?\(?\d(?:[ ()/-]{0,2}\d){2,15})",
    re.I,
)

NUMBERS = (
    # Seven digits and more in a row: no decimals, no thousands, no reference sequence (NM_...).
    re.compile(r"(?<![\d_])(?<!\d[.,])\d{7,}(?![\d_]|[.,]\d)"),
    # Dutch, American and German numbers of persons, as they are usually parted.
    re.compile(r"(?<![\w.,-])(?:\d{4}[. ]\d{2}[. ]\d{3}|\d{3}-\d{2}-\d{4})(?![\w]|[-.,]\d)"),
    re.compile(r"(?<![\w.,-])\d{2} \d{6} [A-Z] \d{3}(?!\w)"),
    # Pathology and accession numbers: T24-123456
    re.compile(r"(?<![^\W_])[A-Z]{1,3}[ ]?\d\d-\d{4,7}(?![\w]|[-.,]\d)"),
    # DICOM UIDs
    re.compile(r"(?<![\w.])[0-2](?:\.\d{1,40}){5,20}(?![\w]|\.\d)"),
)

_PARTICLE = (
    r"(?:van|von|vom|de[nrls]?|het|'t|\u2019t|te[nr]?|zum?|zur|du|la|le|el|al|bin|ibn|op|in|di"
    r"|da|dos)"
)
_CAPITAL = r"[A-Z\u00c0-\u00d6\u00d8-\u00de]"
# No name, though it stands where one would.
_NO_NAME = (
    r"(?!(?:Datum|Date|Male|Female|Man|Mann|Vrouw|Woman|Frau|Unknown|Onbekend|Unbekannt|None|No|Not"
    r"|Geen|Keine?|The|This|Age|Aged|Leeftijd|Alter|DOB|ID|PSA|MRI|MRT|CT|Verslag|Report|Befund"
    r"|Patient|Patientin|Kolleg\w*|Doktor|X+|XYZ|ABC|N\.?A)\b)"
)
_WORD = rf"{_NO_NAME}{_CAPITAL}(?:[^\W\d_]|['\u2019-](?=[^\W\d_]{{2}})){{1,30}}"
_INITIAL = rf"(?!X){_CAPITAL}\."
_NAME = (
    rf"(?:{_INITIAL}[ ]?|{_PARTICLE}\s){{0,5}}{_WORD}"
    rf"(?:[ -](?:{_PARTICLE}\s){{0,3}}{_WORD}){{0,2}}"
)
_PLAIN = rf"{_NO_NAME}{_CAPITAL}[a-z]{{1,30}}"
_TITLE = (
    r"(?:(?:Drs?|drs?|Prof|prof|Mr|Mrs|Ms|Dhr|dhr|Mevr|mevr|Mw|mw|Hr|Ir)\.\s{0,2}"
    r"|(?:mr|ir|DR|PROF|MRS)\.\s{0,2}"
    r"|(?:Drs?|Prof|Mr|Mrs|Ms|Dhr|Mevr|Mw|Doctor|Dokter|Professor|[Dd]e heer|[Mm]eneer|[Mm]evrouw"
    r"|Herrn?|Frau|Doktor|Kollege|Kollegin)\s)"
)
_LABEL = (
    r"(?:(?:patient(?:s|en)?[ -]?)?na(?:me|am)|patiëntnaam|surname|achternaam|voornaam|vorname"
    r"|nachname|first name|last name|radiol(?:oog|ogist|oge|ogin)|pathol(?:oog|ogist|oge|ogin)"
    r"|ärztin|arzt|arts|physician|aanvrager|verwijzer|huisarts|hausarzt|zuweiser|behandelaar"
    r"|referr(?:er|ed by)|(?:signed|dictated|reported|authori[sz]ed|verified) by"
    r"|(?:verslag|geautoriseerd) door)"
)
NAMES = (
    re.compile(
        rf"(?<![^\W_]){_TITLE}(?:(?:med|Dr|dr|h\.c|Prof|ing)\.\s?){{0,3}}(?P<found>{_NAME})"
    ),
    re.compile(rf"(?<![^\W_])(?i:{_LABEL})\s?:[^\S\n]{{0,4}}(?P<found>{_NAME})"),
    # A patient is often described right after the colon: only what is a name by its form.
    re.compile(
        rf"(?<![^\W_])(?i:pati[eë]nt(?:in)?)\s?:[^\S\n]{{0,4}}(?P<found>"
        rf"(?:{_INITIAL}[ ]?){{1,5}}(?:{_PARTICLE}\s){{0,3}}{_WORD}"
        rf"|{_WORD} (?:{_PARTICLE}\s){{1,3}}{_WORD}|{_PLAIN} {_PLAIN}"
        rf"|{_WORD}(?=[^\S\n]*(?:[,(\n]|$)))"
    ),
    # As DICOM writes it
    re.compile(rf"(?<![^\W_])(?P<found>{_CAPITAL}[^\W\d_]{{1,30}}\^{_CAPITAL}[^\W\d_]{{0,30}})"),
    # Jane Doe, MD
    re.compile(rf"(?<![^\W_])(?P<found>{_PLAIN} (?:{_CAPITAL}\.? )?{_PLAIN}),?\s(?:M\.D\.|MD\b)"),
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
