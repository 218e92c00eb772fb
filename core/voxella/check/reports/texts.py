"""Everything that can be checked of a data set without its images: reports, labels, balance.

Patients who may be one: ids that differ in case, padding, parting or Unicode form only.

Marks that de-identification has left in reports: what models memorise most of them.

Reports that another system has cut: many of one greatest length, or of a limit's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from voxella.case import Case
from voxella.check.balance import check_balance
from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding
from voxella.check.reports.files import check_duplicates, read_texts, report_range
from voxella.check.reports.identifiers import check_identifiers
from voxella.check.reports.labels import check_labels, check_labels_against_reports
from voxella.check.reports.token_limit import check_token_limit
from voxella.plugins.contracts import TextEncoder
from voxella.texts.ids import alike, id_problem
from voxella.texts.markers import find_markers
from voxella.texts.placeholders import is_nothing
from voxella.wording import listed

__all__ = ["check_texts"]

# Columns of databases, cells of Excel and of old spreadsheets hold that many characters or bytes.
_LIMITS = frozenset(
    {255, 256, 512, 1000, 1024, 2000, 2048, 4000, 4096, 8000, 8192, 16_384, 32_767, 32_768}
)
_LONG = 200
_SAME = 3


def check_texts(
    manifest_folder: Path,
    cases: Sequence[Case],
    *,
    classes: Sequence[str],
    positive: str | None = None,
    encoder: TextEncoder | None = None,
    max_tokens: int | None = None,
    truncation: str = "right",
    replace_markers: bool = False,
    folder: Path | None = None,
) -> list[Finding]:
    """Check reports, labels and their balance. No finding holds any text of a report.

    Args:
        manifest_folder: The data set's folder, which report paths are relative to.
        cases: Its cases.
        classes: The allowed classes, of two the negative one first.
        positive: The class that PI-RADS and ISUP speak of; None: see :func:`check_labels`.
        encoder: Counts tokens; None: the limit is not checked.
        max_tokens: The most tokens it encodes.
        truncation: ``right`` cuts a report's end, ``left`` its beginning.
        replace_markers: The recipe leaves marks of de-identification out.
        folder: Where reports that are cut are listed; None: nowhere.

    Returns:
        The findings, check by check, each in the cases' order. Character ranges count characters
        of the report as Python's text mode reads it.
    """
    reports = read_texts(Path(manifest_folder), cases)
    texts = reports.texts
    findings = [*reports.findings, *check_duplicates(texts, cases), *check_cut(texts)]
    if encoder is not None and max_tokens is not None:
        findings += check_token_limit(texts, encoder, max_tokens, truncation, folder)
    if not replace_markers:
        findings += check_markers(texts)
    findings += check_identifiers(texts)
    findings += check_alike(cases)
    findings += check_labels(cases, classes, positive)
    findings += check_labels_against_reports(cases, texts, classes, positive)
    return [*findings, *check_balance(cases, classes)]


def check_alike(cases: Sequence[Case]) -> list[Finding]:
    """Name the cases of patients whose ids are alike, or hold what cannot be seen.

    The patients are not named: some hospitals' numbers identify.
    """
    findings = []
    for group in alike(case.group for case in cases):
        members = [case for case in cases if case.group in group]
        splits = sorted({case.split for case in members})
        first, *others = sorted(case.id for case in members)
        named = listed(others, 8)
        where = f", over the splits {', '.join(splits)}" if len(splits) > 1 else ""
        problem = (
            f"its patient's id is like those of {len(group) - 1} other patients{where}: {named}"
        )
        findings.append(text_finding("patient.alike", problem, first))
    for case in cases:
        wrong = id_problem(case.group)
        if is_nothing(case.group):
            # By the letter, all whose patient nobody knows are one.
            wrong = "says nothing (empty, nan, N/A, - or the like); give each patient one"
        if wrong is not None:
            findings.append(text_finding("patient.form", f"its patient's id {wrong}", case.id))
    return findings


def check_markers(texts: Mapping[str, str]) -> list[Finding]:
    """Locate the first mark of every report that has any, and count them all."""
    found = {case: places for case, text in texts.items() if (places := find_markers(text))}
    findings = [
        text_finding(
            "report.markers",
            f"{len(places)} de-identification marks in its report, this the first",
            case,
            report_range(*places[0]),
        )
        for case, places in found.items()
    ]
    if findings:
        total = sum(map(len, found.values()))
        problem = f"{total} de-identification marks in {len(found)} of {len(texts)} reports"
        findings.append(text_finding("report.markers", problem))
    return findings


def check_cut(texts: Mapping[str, str]) -> list[Finding]:
    """Name reports that end where a system's limit lies.

    They end within a sentence, and either have as many characters or bytes as a known limit, or
    several different ones are exactly as long as the longest.
    """
    lengths = {case: len(text) for case, text in texts.items()}
    longest = max(lengths.values(), default=0)
    broken = {case: text for case, text in texts.items() if text[-1:].isalnum()}
    distinct = Counter(len(text) for text in {*broken.values()})
    shared = longest >= _LONG and distinct[longest] >= _SAME
    findings = []
    for case, text in broken.items():
        sizes = {len(text), len(text.encode()), len(text.encode("utf-16-le")) // 2}
        if shared and lengths[case] == longest:
            problem = (
                f"its report has {longest} characters, as the {distinct[longest]} longest all have"
            )
        elif sizes & _LIMITS:
            problem = f"its report ends within a sentence after {lengths[case]} characters"
        else:
            continue
        findings.append(text_finding("report.cut", problem, case, "report"))
    return findings
