"""Reports beside PI-CAI, which has none of its own: found by case id or through a map.

Report files may be named after patients, so messages count them and name cases only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voxella.data.drafts import CaseDraft, warn
from voxella.data.report_map import read_report_map, reports_in
from voxella.data.reports import Report, ReportReader
from voxella.errors import UserError

__all__ = ["add_reports"]


def add_reports(
    drafts: Sequence[CaseDraft],
    folder: Path | None,
    reports_map: Path | None,
    reader: ReportReader,
    *,
    encoding: str | None = None,
    visible_only: bool = False,
) -> list[CaseDraft]:
    """Return the drafts with their reports; say how many reports and cases are left over.

    Args:
        drafts: The cases.
        folder: Holds ``<case id>.txt``, or what the map's file names are relative to.
        reports_map: JSON object ``{case id: file}``, or a table with the columns id and report.
        reader: Reads them.
        encoding: Of a map that is not UTF-8 and has no byte-order mark.
        visible_only: Leave out the hidden rows of a workbook.

    Raises:
        UserError: The folder or the map is wrong, or a case's report cannot be read: all at once.
    """
    if folder is None and reports_map is None:
        return list(drafts)
    lying, note = ([], None) if folder is None else reports_in(folder)
    files = {path.stem: path for path in lying}
    if reports_map is not None:
        told = read_report_map(reports_map, folder, encoding=encoding, visible_only=visible_only)
        files = dict(told)
    problems: list[str] = []
    reports: dict[str, Report | None] = {}
    for draft in drafts:
        if draft.id not in files:
            continue
        try:
            reports[draft.id] = reader.file(files[draft.id])
        except ValueError as error:
            problems.append(f"case {draft.id}: its report file {error}")
    if problems:
        raise UserError("\n".join(problems), remedy="fix the files or reports_map")
    for line in [*([note] if note else []), *reader.notes()]:
        warn(line)
    _warn(len(drafts), reports, files, lying)
    return [replace(draft, report=reports.get(draft.id)) for draft in drafts]


def _warn(
    cases: int, reports: dict[str, Report | None], files: dict[str, Path], lying: list[Path]
) -> None:
    """Warn of reports that no case uses and of cases without a report."""
    every = {path.resolve() for path in [*files.values(), *lying]}
    unused = len(every - {files[case].resolve() for case in reports})
    if unused:
        warn(f"{unused} of {len(every)} reports not used: no imported case has their id")
    without = cases - sum(report is not None for report in reports.values())
    if without:
        warn(
            f"{without} of {cases} cases have no report (name report files by case id, "
            "10000_1000000.txt, or give reports_map)"
        )
