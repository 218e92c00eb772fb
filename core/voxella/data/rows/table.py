"""What a table is once read: numbered rows of text under named columns.

Cells may hold reports, so no message quotes one; rows are named by number.

Typed cells, from JSON or a workbook, as the text that a CSV file would hold.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from voxella.errors import UserError
from voxella.texts.ids import trimmed
from voxella.wording import named_list

__all__ = [
    "Row",
    "Table",
    "cell_text",
    "cut_problem",
    "from_cells",
    "refuse",
    "shown",
    "unreadable",
]

_KINDS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xlsx", ".xlsm")
_NEAREST = 3
# UTF-16 units in a cell of Excel; what was longer has lost its end, in whatever it was saved as.
_EXCELS_MOST = 32_767


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        number: As the user finds it: the spreadsheet's row (the header is row 1), or the line or
            entry of a JSON file.
        cells: Stripped text by column name; empty where there is nothing.
    """

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table read whole.

    Attributes:
        columns: Names, in order.
        rows: The rows, without empty ones.
        delimiter: Of a CSV file; None for other formats.
        encoding: Of the file's text, ``xlsx`` for a workbook.
    """

    columns: list[str]
    rows: list[Row]
    delimiter: str | None = None
    encoding: str = "utf-8"


def shown(names: Iterable[str]) -> str:
    """List column names for a message; in a table that has no header one may be a report."""
    return named_list(names)


def unreadable(path: Path, error: OSError) -> UserError:
    """Return what to say of a table that cannot be opened: where one is absent, which are there."""
    problem = f"{path}: cannot be read: {error.strerror}"
    if not isinstance(error, FileNotFoundError):
        return UserError(problem, remedy=f"see what it is and who may read it: ls -ld {path}")
    if not path.parent.is_dir():
        return UserError(problem, remedy=f"there is no folder {path.parent}: correct the path")
    tables = sorted(one.name for one in path.parent.iterdir() if one.suffix.lower() in _KINDS)
    # A few only: a folder may hold a table a patient, named after them.
    nearest = get_close_matches(path.name, tables, _NEAREST, cutoff=0)
    there = f"tables there: {', '.join(nearest)}" if nearest else "there is no table in that folder"
    return UserError(problem, remedy=f"correct the path; {there}")


def cut_problem(cell: str) -> str | None:
    """Return that Excel has cut a cell, or None; for columns whose text is read."""
    units = len(cell.encode("utf-16-le", "surrogatepass")) // 2 if len(cell) > 10_000 else 0
    if units != _EXCELS_MOST:
        return None
    return (
        f"{_EXCELS_MOST} characters, the most that Excel keeps: its end is lost; export it from "
        "its source as CSV or JSON, without Excel"
    )


def from_cells(
    path: Path,
    lines: Sequence[Sequence[str]],
    expected: Collection[str],
    *,
    delimiter: str | None = None,
    encoding: str,
) -> Table:
    """Make a table of lines of cells, the first of which is the header.

    Args:
        path: Named in messages.
        lines: The cells' text.
        expected: Column names; a header with none of them is no header.
        delimiter: Recorded in the table.
        encoding: Recorded in the table.

    Raises:
        UserError: There is no header, a column is duplicated, or rows have more or fewer cells: all
            of them, by number.
    """
    columns = [trimmed(name) for name in lines[0]] if lines else []
    if columns and not set(columns) & set(expected):
        # Nothing of it is quoted: without a header the first row may be a report.
        raise UserError(
            f"{path}: its first row is no header with any of the columns looked for",
            expected=shown(sorted(expected)),
            remedy="give the table a header, or name its columns to the importer",
        )
    problems: list[str] = []
    twice = sorted({name for name in columns if columns.count(name) > 1 and name})
    if twice:
        problems.append(f"{path}: columns are duplicated: {shown(twice)}")
    rows: list[Row] = []
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            problems.append(
                f"{path}: row {number}: {len(cells)} cells under {len(columns)} columns"
            )
            continue
        pairs = list(zip(columns, cells, strict=True))
        problems += [
            f"{path}: row {number}, column {shown([name])}: {cut}"
            for name, cell in pairs
            if name in expected and (cut := cut_problem(cell))
        ]
        rows.append(Row(number, {name: cell.strip() for name, cell in pairs}))
    refuse(path, problems, columns)
    return Table(columns, rows, delimiter, encoding)


def refuse(path: Path, problems: list[str], columns: list[str]) -> None:
    """Raise what was found to be wrong, if anything.

    Raises:
        UserError: There are problems, or there is no column at all.
    """
    if not problems and not columns:
        problems = [f"{path}: the table is empty"]
    if problems:
        raise UserError("\n".join(problems), remedy="fix the table and import again")


def cell_text(value: object) -> str:
    """Return a cell's text; empty where there is nothing.

    A whole number is written without a decimal point: spreadsheets and pandas keep ids as 3.0. A
    date without a time of day is written as a date, and nan, which is how pandas says "nothing", is
    nothing.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return (value.date() if midnight else value).isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value).strip()
