"""Marks that de-identification has left in reports: what models memorise most of them."""

from __future__ import annotations

from collections.abc import Mapping

from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding
from voxella.check.report_files import report_range
from voxella.texts.markers import find_markers

__all__ = ["check_markers"]


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
