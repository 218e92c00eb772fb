"""Tables as rows of text: CSV with any delimiter and encoding, JSON lines or lists, workbooks.

Cells may hold reports, so no message quotes one; rows are named by number.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection
from pathlib import Path

from voxella.errors import UserError
from voxella.importers.reports import decode
from voxella.importers.rows_json import from_json
from voxella.importers.rows_table import Row, Table, from_cells, shown, unreadable
from voxella.importers.rows_workbook import WORKBOOKS, is_workbook, read_workbook

__all__ = ["Row", "Table", "read_table", "read_text", "shown"]

_DELIMITERS = (",", ";", "\t", "|")
# csv refuses cells of more than 128 KiB; a report never reaches this, an unclosed quote does.
_LONGEST_CELL = 1 << 22


def read_table(
    path: Path,
    expected: Collection[str],
    delimiter: str | None = None,
    sheet: str | None = None,
) -> Table:
    """Read a table: JSON or a workbook by its suffix, else CSV.

    JSON is ``.json``, ``.jsonl`` or ``.ndjson``, a workbook ``.xlsx`` or ``.xlsm``.

    Args:
        path: The file.
        expected: Column names it should have: the delimiter is the one that finds most of them.
        delimiter: Of a CSV file, where guessing is not wanted.
        sheet: Of a workbook with several.

    Raises:
        UserError: It cannot be read, or is no workbook and a sheet is named; all malformed rows
            are named at once, by number.
    """
    suffix = path.suffix.lower()
    if suffix in WORKBOOKS or is_workbook(path):
        return from_cells(path, read_workbook(path, expected, sheet), expected, encoding="xlsx")
    text, encoding = read_text(path)
    if sheet is not None:
        raise UserError(f"{path}: a sheet is named, and this is no workbook", remedy="leave it out")
    if suffix in {".json", ".jsonl", ".ndjson"}:
        return from_json(path, text, lines=suffix != ".json", encoding=encoding)
    return _from_csv(path, text, expected, delimiter, encoding)


def read_text(path: Path) -> tuple[str, str]:
    """Return a table file's text and encoding.

    Raises:
        UserError: It cannot be opened, or is no text.
    """
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _from_csv(
    path: Path, text: str, expected: Collection[str], delimiter: str | None, encoding: str
) -> Table:
    csv.field_size_limit(_LONGEST_CELL)
    # Excel's own way to say which delimiter follows; it does not show this line.
    if told := re.match(r"sep=(.)\r?\n", text):
        text, delimiter = text[told.end() :], delimiter or told[1]
    delimiter = delimiter or max(_DELIMITERS, key=lambda mark: _fit(text, mark, expected))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    except TypeError:
        raise UserError(f"{path}: a delimiter is one character, not {len(delimiter)}") from None
    try:
        lines = list(reader)
    except csv.Error as error:
        raise UserError(
            f"{path}:{reader.line_num}: not CSV: {error}",
            remedy="mend the table and import again",
        ) from None
    return from_cells(path, lines, expected, delimiter=delimiter, encoding=encoding)


def _fit(text: str, delimiter: str, expected: Collection[str]) -> tuple[int, int]:
    """Rate a delimiter by the header: how many expected names it yields, then how many names."""
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return (-1, 0)
    return (len({name.strip() for name in header} & set(expected)), len(header))
