"""Reports as files: which are absent, unreadable, empty, altered, garbled or there twice.

The texts go to the other checks and nowhere else. Offsets count characters of the text as Python's
text mode reads it: UTF-8, every line end one character.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voxella.case import Case
from voxella.case.texts import split_text_id, text_id
from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding
from voxella.hashing import sha256_bytes
from voxella.machine import raise_if_machine
from voxella.texts.documents import Document, stored_text
from voxella.texts.garbled import find_garbled
from voxella.texts.placeholders import stated
from voxella.wording import listed

__all__ = ["ReportTexts", "check_duplicates", "read_texts", "report_range"]


@dataclass(frozen=True)
class ReportTexts:
    """What was read.

    Attributes:
        texts: By :func:`voxella.case.texts.text_id`, those that hold something; in the cases'
            order.
        findings: What is wrong with the files.
    """

    # Not in repr: patient data.
    texts: dict[str, str] = field(repr=False)
    findings: list[Finding]


def read_texts(manifest_folder: Path, cases: Sequence[Case]) -> ReportTexts:
    """Read every case's texts and say what is wrong with the files; never raises for a file."""
    texts: dict[str, str] = {}
    findings: list[Finding] = []
    without = [case for case in cases if not case.texts]
    if without and len(without) == len(cases):
        findings.append(text_finding("report.none", f"none of {len(cases)} cases has a report"))
    else:
        findings += [text_finding("report.none", "has no report", case.id) for case in without]
    for case in cases:
        for name, file in case.texts.items():
            key = text_id(case.id, name)
            text, found = _read(manifest_folder / file, key, case.texts_sha256.get(name))
            findings += found
            if text.strip():
                texts[key] = text
    return ReportTexts(texts, findings)


def _read(path: Path, key: str, recorded: str | None) -> tuple[str, list[Finding]]:
    """Return one text, "" where there is none to be had, and what is wrong with it."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise_if_machine(error)
        # ValueError: a NUL in the name. Neither message is shown: a name may name a patient.
        problem = f"its report cannot be read ({type(error).__name__})"
        return "", [text_finding("report.missing", problem, key, "report")]
    found = []
    if recorded is not None and sha256_bytes(data) != recorded:
        problem = "its report's hash is not the one recorded at import"
        found.append(text_finding("report.changed", problem, key, "report"))
    try:
        text = stored_text(data)
    except UnicodeDecodeError as error:
        # The exception itself carries the report's bytes: say only where it broke off.
        problem = f"its report is not UTF-8 from byte {error.start} of {len(data)}"
        return "", [*found, text_finding("report.undecodable", problem, key, "report")]
    except Document as document:
        problem = f"its report {document}"
        return "", [*found, text_finding("report.document", problem, key, "report")]
    if not text.strip():
        problem = f"its report of {len(data)} bytes holds nothing but white space"
        return "", [*found, text_finding("report.empty", problem, key, "report")]
    if not stated(text):
        problem = f"its report of {len(data)} bytes says nothing"
        return "", [*found, text_finding("report.placeholder", problem, key, "report")]
    return text, [*found, *_garbled(text, key)]


def _garbled(text: str, case: str) -> list[Finding]:
    places = find_garbled(text)
    if not places:
        return []
    problem = f"{len(places)} garbled or control characters in its report, this the first"
    return [text_finding("report.garbled", problem, case, report_range(*places[0]))]


def report_range(start: int, end: int) -> str:
    """Return how findings name a character range of a report, end excluded."""
    return f"report[{start}:{end}]"


def check_duplicates(texts: Mapping[str, str], cases: Sequence[Case]) -> list[Finding]:
    """Find reports that are the same but for white space: one finding per group.

    Cases of one patient or slide may name one file, as tiles of a slide do; they count as one.
    """
    splits = {case.id: case.split for case in cases}
    sources = {
        text_id(case.id, name): (case.group, file)
        for case in cases
        for name, file in case.texts.items()
    }
    same: dict[str, dict[tuple[str, str], str]] = {}
    for key, text in texts.items():
        found = same.setdefault(sha256_bytes(" ".join(text.split()).encode()), {})
        found.setdefault(sources[key], key)
    findings = []
    for found in same.values():
        group: dict[str, str] = {}
        for key in found.values():
            # Two equal texts of one case are no matter.
            group.setdefault(split_text_id(key)[0], key)
        first, *others = group
        if not others:
            continue
        within = sorted({splits[case] for case in (first, *others)})
        leak = f", over the splits {', '.join(within)}" if len(within) > 1 else ""
        problem = f"{len(others)} more cases have this report, word for word{leak}: "
        named = listed(others, 8)
        findings.append(text_finding("report.duplicate", problem + named, group[first], "report"))
    return findings
