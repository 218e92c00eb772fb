"""JSON lines and JSON lists as numbered records of text."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from voxella.data.rows.table import Row, Table, cell_text, cut_problem, refuse, shown
from voxella.errors import UserError
from voxella.plain_json import parse_json

__all__ = ["from_json", "json_list"]


def from_json(
    path: Path, text: str, expected: Collection[str], *, lines: bool, encoding: str
) -> Table:
    """Read a table from JSON text.

    Args:
        path: Named in messages.
        text: The file's text.
        expected: Columns that are wanted; what is wrong with others does not matter.
        lines: One object per line; otherwise one list of objects.
        encoding: Recorded in the table.

    Raises:
        UserError: It is not JSON of that form; all wrong lines or entries are named.
    """
    records = _json_lines(path, text) if lines else json_list(path, text)
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
        problems += [
            f"{path}: entry {number}: {shown([key])} holds {cut}"
            for key, value in record.items()
            if key in expected and isinstance(value, str) and (cut := cut_problem(value))
        ]
        columns |= dict.fromkeys(record)
        rows.append(Row(number, {key: cell_text(value) for key, value in record.items()}))
    refuse(path, problems, list(columns))
    complete = [
        Row(row.number, {name: row.cells.get(name, "") for name in columns}) for row in rows
    ]
    return Table(list(columns), complete, encoding=encoding)


def json_list(path: Path, text: str) -> list[tuple[int, Any]]:
    """Return the entries of a JSON list, numbered from 1.

    Raises:
        UserError: It is not JSON, or not a list.
    """
    try:
        loaded = parse_json(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON that can be read: {error}") from None
    if not isinstance(loaded, list):
        raise UserError(f"{path}: not a list of objects", expected='[{"id": "a", ...}, ...]')
    return list(enumerate(loaded, start=1))


def _json_lines(path: Path, text: str) -> list[tuple[int, Any]]:
    records: list[tuple[int, Any]] = []
    problems: list[str] = []
    # Not splitlines(): JSON text may hold other characters that it takes for line ends.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append((number, parse_json(line)))
        except ValueError as error:
            problems.append(f"{path}: line {number}: not JSON that can be read: {error}")
    if problems:
        raise UserError("\n".join(problems), expected='one object per line: {"id": "a", ...}')
    return records
