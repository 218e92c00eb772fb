"""Tables as rows of text: CSV with any delimiter and encoding, JSON lines, a JSON list.

Cells may hold reports, so no message quotes one; rows are named by number.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.importers.reports import decode

__all__ = ["Row", "Table", "read_table"]

_DELIMITERS = (",", ";", "\t", "|")
# A longer "column name" is rather a report in a table that has no header.
_LONGEST_NAME = 40
# csv refuses cells of more than 128 KiB; a report never reaches this, an unclosed quote does.
_LONGEST_CELL = 1 << 22


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
        delimiter: Of a CSV file; None for JSON.
    """

    columns: list[str]
    rows: list[Row]
    delimiter: str | None = None


def read_table(path: Path, expected: Collection[str], delimiter: str | None = None) -> Table:
    """Read a table, JSON by its suffix (``.json``, ``.jsonl``, ``.ndjson``), else CSV.

    Args:
        path: The file.
        expected: Column names it should have: the delimiter is the one that finds most of them.
        delimiter: Of a CSV file, where guessing is not wanted.

    Raises:
        UserError: It cannot be read; all malformed rows are named at once, by number.
    """
    try:
        text, _ = decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _from_records(path, _json_list(path, text))
    if suffix in {".jsonl", ".ndjson"}:
        return _from_records(path, _json_lines(path, text))
    return _from_csv(path, text, expected, delimiter)


def shown(names: Iterable[str]) -> str:
    """List column names for a message, leaving out what is too long to be a name."""
    return ", ".join(name if len(name) <= _LONGEST_NAME else "(long text)" for name in names)


def _from_csv(path: Path, text: str, expected: Collection[str], delimiter: str | None) -> Table:
    csv.field_size_limit(_LONGEST_CELL)
    delimiter = delimiter or max(_DELIMITERS, key=lambda mark: _fit(text, mark, expected))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    problems: list[str] = []
    lines: list[list[str]] = []
    try:
        lines = list(reader)
    except csv.Error as error:
        problems.append(f"{path}:{reader.line_num}: not CSV: {error}")
    columns = [name.strip() for name in lines[0]] if lines else []
    if lines and not problems and not set(columns) & set(expected):
        # Nothing of it is quoted: without a header the first row may be a report.
        raise UserError(
            f"{path}: its first row is no header with any of the columns looked for",
            legal=shown(sorted(expected)),
            remedy="give the table a header, or name its columns to the importer",
        )
    twice = sorted({name for name in columns if columns.count(name) > 1 and name})
    if twice:
        problems.append(f"{path}: columns stand twice: {shown(twice)}")
    rows: list[Row] = []
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            problems.append(
                f"{path}: row {number}: {len(cells)} cells under {len(columns)} columns"
            )
            continue
        pairs = zip(columns, cells, strict=True)
        rows.append(Row(number, {name: cell.strip() for name, cell in pairs}))
    _refuse(path, problems, columns)
    return Table(columns, rows, delimiter)


def _fit(text: str, delimiter: str, expected: Collection[str]) -> tuple[int, int]:
    """Rate a delimiter by the header: how many expected names it yields, then how many names."""
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return (-1, 0)
    return (len({name.strip() for name in header} & set(expected)), len(header))


def _json_list(path: Path, text: str) -> list[tuple[int, Any]]:
    try:
        loaded = json.loads(text)
    except ValueError as error:
        # The decoder's message gives line and column and no text.
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(loaded, list):
        raise UserError(f"{path}: not a list of objects", legal='[{"id": "a", ...}, ...]')
    return list(enumerate(loaded, start=1))


def _json_lines(path: Path, text: str) -> list[tuple[int, Any]]:
    records: list[tuple[int, Any]] = []
    problems: list[str] = []
    # Not splitlines(): JSON text may hold other characters that it takes for line ends.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append((number, json.loads(line)))
        except ValueError:
            problems.append(f"{path}: line {number}: not JSON")
    if problems:
        raise UserError("\n".join(problems), legal='one object per line: {"id": "a", ...}')
    return records


def _from_records(path: Path, records: list[tuple[int, Any]]) -> Table:
    columns: dict[str, None] = {}
    rows: list[Row] = []
    problems: list[str] = []
    for number, record in records:
        if not isinstance(record, dict):
            problems.append(f"{path}: entry {number}: not an object")
            continue
        nested = [key for key, value in record.items() if isinstance(value, dict | list)]
        if nested:
            problems.append(f"{path}: entry {number}: a list or object in {shown(nested)}")
        columns |= dict.fromkeys(record)
        cells = {key: "" if value is None else str(value).strip() for key, value in record.items()}
        rows.append(Row(number, cells))
    _refuse(path, problems, list(columns))
    complete = [
        Row(row.number, {name: row.cells.get(name, "") for name in columns}) for row in rows
    ]
    return Table(list(columns), complete)


def _refuse(path: Path, problems: list[str], columns: list[str]) -> None:
    if not problems and not columns:
        problems = [f"{path}: the table is empty"]
    if problems:
        raise UserError("\n".join(problems), remedy="mend the table and import again")
