"""Reports beside PI-CAI, which has none of its own: found by case id or through a map.

Report files may be named after patients, so messages count them and name cases only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voxella.errors import UserError
from voxella.importers.drafts import Draft, warn
from voxella.importers.reports import Report, read_report
from voxella.importers.rows import read_table

__all__ = ["add_reports"]


def add_reports(
    drafts: Sequence[Draft], folder: Path | None, reports_map: Path | None, out: Path
) -> list[Draft]:
    """Return the drafts with their reports; say how many reports and cases are left over.

    Args:
        drafts: The cases.
        folder: Holds ``<case id>.txt``, or what the map's file names are relative to.
        reports_map: JSON object ``{case id: file}``, or a table with the columns id and report.
        out: The data set's folder, in which no source report may lie.

    Raises:
        UserError: The folder or the map is wrong, or a case's report cannot be read: all at once.
    """
    if folder is None and reports_map is None:
        return list(drafts)
    lying = _lying_there(folder)
    files = (
        {path.stem: path for path in lying} if reports_map is None else _map(reports_map, folder)
    )
    problems: list[str] = []
    reports: dict[str, Report | None] = {}
    for draft in drafts:
        if draft.id not in files:
            continue
        try:
            reports[draft.id] = _report(files[draft.id], out)
        except ValueError as error:
            problems.append(f"case {draft.id}: its report file {error}")
    if problems:
        raise UserError("\n".join(problems), remedy="mend the files or reports_map")
    _tell(len(drafts), reports, files, lying)
    return [replace(draft, report=reports.get(draft.id)) for draft in drafts]


def _lying_there(folder: Path | None) -> list[Path]:
    if folder is not None and not folder.is_dir():
        raise UserError(f"reports: {folder} is no folder")
    return sorted(folder.glob("*.txt")) if folder is not None else []


def _report(path: Path, out: Path) -> Report | None:
    if path.resolve().is_relative_to((out / "reports").resolve()):
        raise ValueError("lies where the data set's own reports go; choose another --out")
    return read_report(path)


def _tell(
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


def _map(path: Path, folder: Path | None) -> dict[str, Path]:
    """Read ``{case id: file}`` from a JSON object or a table with the columns id and report."""
    base = folder or path.parent
    if path.suffix.lower() != ".json":
        table = read_table(path, ("id", "report"))
        if not {"id", "report"} <= set(table.columns):
            raise UserError(f"{path}: the columns id and report are needed")
        return {row.cells["id"]: base / row.cells["report"] for row in table.rows}
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file that can be read") from error
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded.values()):
        raise UserError(f"{path}: not an object of file names", legal='{"10000_1000000": "a.txt"}')
    return {case: base / name for case, name in loaded.items()}
