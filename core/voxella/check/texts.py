"""Everything that can be checked of a data set without its images: reports, labels, balance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxella.case import Case
from voxella.check.alike import check_alike
from voxella.check.balance import check_balance
from voxella.check.cut_reports import check_cut
from voxella.check.finding import Finding
from voxella.check.identifiers import check_identifiers
from voxella.check.labels import check_labels, check_labels_against_reports
from voxella.check.markers import check_markers
from voxella.check.report_files import check_duplicates, read_texts
from voxella.check.token_limit import check_token_limit
from voxella.plugins.contracts import TextEncoder

__all__ = ["check_texts"]


def check_texts(
    manifest_folder: Path,
    cases: Sequence[Case],
    *,
    classes: Sequence[str],
    encoder: TextEncoder | None = None,
    max_tokens: int | None = None,
    truncation: str = "right",
    replace_markers: bool = False,
) -> list[Finding]:
    """Check reports, labels and their balance. No finding holds any text of a report.

    Args:
        manifest_folder: The data set's folder, which report paths are relative to.
        cases: Its cases.
        classes: The legal classes, the negative one first.
        encoder: Counts tokens; None: the limit is not checked.
        max_tokens: The most tokens it encodes.
        truncation: ``right`` cuts a report's end, ``left`` its beginning.
        replace_markers: The recipe leaves marks of de-identification out.

    Returns:
        The findings, check by check, each in the cases' order. Character ranges count characters
        of the report as Python's text mode reads it.
    """
    reports = read_texts(Path(manifest_folder), cases)
    texts = reports.texts
    findings = [*reports.findings, *check_duplicates(texts, cases), *check_cut(texts)]
    if encoder is not None and max_tokens is not None:
        findings += check_token_limit(texts, encoder, max_tokens, truncation)
    if not replace_markers:
        findings += check_markers(texts)
    findings += check_identifiers(texts)
    findings += check_alike(cases)
    findings += check_labels(cases, classes)
    findings += check_labels_against_reports(cases, texts, classes)
    return [*findings, *check_balance(cases, classes)]
