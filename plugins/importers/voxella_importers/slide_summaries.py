"""Summaries of slides' reports: a table, as `voxella summarise` writes it, or a folder of files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from voxella.data.reports import ReportReader
from voxella.data.rows.read import read_table
from voxella.errors import UserError
from voxella.wording import listed

__all__ = ["read_summaries"]

_ID, _TEXT = "id", "summary"


def read_summaries(
    source: Path, names: Iterable[str], out: Path, encoding: str | None = None
) -> dict[str, list[str]]:
    """Return the summaries by slide or patient; several of one are in their order.

    Args:
        source: A table with the columns ``id`` and ``summary``, or a folder of ``NAME.txt``.
        names: Of slides and patients, whose files are looked for.
        out: The data set's folder.
        encoding: Of texts that are not UTF-8.

    Raises:
        UserError: The table has other columns, or a text is no text; named by slide or row.
    """
    reader = ReportReader(out, encoding)
    found: dict[str, list[str]] = {}
    problems: list[str] = []
    if source.is_dir():
        files = {name: source / f"{name}.txt" for name in dict.fromkeys(names)}
        for name, path in files.items():
            try:
                report = reader.file(path) if path.is_file() else None
            except ValueError as error:
                problems.append(f"summary of {name} {error}")
                continue
            if report is not None:
                found[name] = [report.text]
    else:
        table = read_table(source, [_ID, _TEXT], encoding=encoding)
        if absent := [name for name in (_ID, _TEXT) if name not in table.columns]:
            raise UserError(
                f"{source}: no column {listed(absent)}",
                expected="a table with the columns id (slide or patient) and summary, or a folder "
                "of files NAME.txt",
                remedy="voxella summarise DATASET --out SUMMARIES writes summaries.csv",
            )
        for row in table.rows:
            try:
                report = reader.inline(row.cells[_TEXT], table.encoding)
            except ValueError as error:
                problems.append(f"row {row.number}: its summary {error}")
                continue
            if report is not None:
                found.setdefault(row.cells[_ID], []).append(report.text)
    if problems:
        raise UserError("\n".join([f"{source}: {len(problems)} problems", *problems]))
    return found
