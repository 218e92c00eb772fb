"""Marks that de-identification has left: ___, [NAME], [**2101-3-4**], XXXX, <DATE>, **NAME[AAA].

Text-conditioned models memorise these more than anything else in reports (Dutt et al. 2025,
arXiv 2502.07516): the same rare tokens, at places that tell one report from all others.
"""

from __future__ import annotations

import re

__all__ = ["find_markers", "without_markers"]

# What stands in brackets instead of a person, a place, a time or a number.
_WHAT = (
    r"name|first ?name|last ?name|surname|patient(?:en)?|person|persoon|people|doctor"
    r"|physician|radiolog(?:ist|e|oog)|clinician|nurse|arzt|arts|staff|author|initials?|contact|relative"
    r"|date|datum|dates|day|month|year|time|tijd|zeit|age|leeftijd|alter|birth|dob|birthdate"
    r"|hospital|ziekenhuis|klinik|krankenhaus|clinic|institution|department|location|place|plaats|ort"
    r"|city|street|address|adres|adresse|zip|country|state|room|ward"
    r"|phone|telephone|telefoon|telefon|fax|e-?mail|url|id|mrn|ssn|number|nummer|accession|identifier"
    r"|patientid|patientnumber|patientnummer|case ?id|study ?id|t[-_ ]?nummer|rapport[-_ ]?id"
    r"|nom|pr[ée]nom|m[ée]decin|h[ôo]pital|date de naissance|nombre|fecha|hospitalname|m[ée]dico"
    r"|phi|pii|protected|redacted|removed|deleted|omitted|masked|hidden|blinded|geschw[äa]rzt"
    r"|de-?identified|anonymi[sz]ed|anonymisiert|geanonimiseerd|geslacht|confidential"
)
_INSIDE = rf"(?:[A-Za-z]{{1,20}}[ _.-])?(?:{_WHAT})(?:[ _.-]?(?:[A-Za-z]{{1,20}}|\d{{1,6}})){{0,3}}"
_MARKERS = re.compile(
    r"\[\*\*[^\[\]\n]{0,120}\*\*\]"  # MIMIC-III
    r"|\*\*[A-Z][A-Z_-]{1,30}(?:\[[^\[\]\n]{0,80}\]|<[^<>\n]{0,80}>)"  # De-ID: **NAME[AAA BBB]
    rf"|\[\[?(?i:{_INSIDE})\]?\]|\{{\{{?(?i:{_INSIDE})\}}?\}}|<(?i:{_INSIDE})>"
    r"|<[A-Z][A-Z0-9]{2,20}(?:[_.-][A-Z0-9]{1,20}){0,4}>"  # <PERSOON>, <RAPPORT_ID.T_NUMMER>
    r"|\((?i:redacted|name removed|name redacted|de-?identified|anonymi[sz]ed)\)"
    rf"|@@+(?i:{_INSIDE})@@+|\|(?i:{_INSIDE})\|"
    r"|(?<![A-Za-z0-9])(?:[Xx]{3,}|[Xx]{2}([-/.])[Xx]{2}\1[Xx]{2,4})(?![A-Za-z0-9])"
    r"|_{3,}|\*{3,}|[█■▇▮]{2,}|(?<!#)#{4,}(?!#)"
    r"|(?<![A-Za-z])(?:REDACTED|DEIDENTIFIED)(?![A-Za-z])"
)
_GAP = re.compile(r"[^\S\n]+")


def find_markers(text: str) -> list[tuple[int, int]]:
    """Return where marks stand, in characters, in order and without overlap."""
    return [match.span() for match in _MARKERS.finditer(text)]


def without_markers(text: str) -> str:
    """Return a text without its marks; what stood around one is a space apart, lines stay lines.

    A word in their place would keep what is memorised: how many there are and where.
    """
    if not find_markers(text):
        return text
    lines = _MARKERS.sub(" ", text).split("\n")
    return "\n".join(_GAP.sub(" ", line).strip() for line in lines).strip()
