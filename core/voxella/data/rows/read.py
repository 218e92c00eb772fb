"""Tables as rows of text: CSV with any delimiter and encoding, JSON lines or lists, workbooks.

Cells may hold reports, so no message quotes one; rows are named by number.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection
from pathlib import Path

from voxella.data.drafts import warn
from voxella.data.rows.json import from_json
from voxella.data.rows.table import Row, Table, from_cells, shown, unreadable
from voxella.data.rows.workbook import WORKBOOKS, is_workbook, read_workbook
from voxella.errors import UserError
from voxella.limits import CELLS, TEXT_BYTES
from voxella.texts.encodings import decode

__all__ = ["Row", "Table", "read_table", "read_text", "shown"]

_DELIMITERS = (",", ";", "\t", "|")
# csv refuses cells of more than 128 KiB; a report never reaches this, an unclosed quote does.
_LONGEST_CELL = 1 << 22
_KEPT = re.compile(r'\s*="((?:[^"]|"")*)"\s*')


def read_table(
    path: Path,
    expected: Collection[str],
    delimiter: str | None = None,
    sheet: str | None = None,
    *,
    encoding: str | None = None,
    numbers: Collection[str] = (),
    visible_only: bool = False,
) -> Table:
    """Read a table: JSON or a workbook by its suffix, else CSV.

    JSON is ``.json``, ``.jsonl`` or ``.ndjson``, a workbook ``.xlsx`` or ``.xlsm``.

    Args:
        path: The file.
        expected: Column names it should have: the delimiter is the one that finds most of them.
        delimiter: Of a CSV file, where guessing is not wanted.
        sheet: Of a workbook with several.
        encoding: Of a file that is not UTF-8 and has no byte-order mark.
        numbers: Those of the expected columns that hold numbers and dates; in the others Excel's
            formats count, and a date is refused.
        visible_only: Leave out rows that are hidden or filtered out in a workbook.

    Raises:
        UserError: It cannot be read, or is no workbook and a sheet is named; all malformed rows
            are named at once, by number.
    """
    suffix = path.suffix.lower()
    if suffix in WORKBOOKS or is_workbook(path):
        found = read_workbook(path, expected, sheet, numbers=numbers, visible_only=visible_only)
        for note in found.notes:
            warn(f"{path}: {note}")
        return from_cells(path, found.rows, expected, encoding="xlsx")
    text, used = read_text(path, encoding)
    if sheet is not None:
        raise UserError(f"{path}: a sheet is named, and this is no workbook", remedy="leave it out")
    if suffix in {".json", ".jsonl", ".ndjson"}:
        return from_json(path, text, expected, lines=suffix != ".json", encoding=used)
    return _from_csv(path, text, expected, delimiter, used)


def read_text(path: Path, encoding: str | None = None) -> tuple[str, str]:
    """Return a table file's text and encoding.

    Args:
        path: The file.
        encoding: Of a file that is not UTF-8 and has no byte-order mark.

    Raises:
        UserError: It cannot be opened, is no text, or is in another encoding.
    """
    try:
        return decode(TEXT_BYTES.read(path), encoding)
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
        lines = []
        cells = 0
        for line in reader:
            cells += len(line)
            CELLS.require(cells, f"{path}: lines 1 to {reader.line_num:,}")
            lines.append([_shown_by_excel(cell) for cell in line])
    except csv.Error as error:
        raise UserError(
            f"{path}:{reader.line_num}: not CSV: {error}",
            remedy="fix the table and import again",
        ) from None
    return from_cells(path, lines, expected, delimiter=delimiter, encoding=encoding)


def _shown_by_excel(cell: str) -> str:
    """Return the text of ``="007"``, which is how CSV files keep Excel from dropping zeros."""
    inner = _KEPT.fullmatch(cell)
    return inner[1].replace('""', '"') if inner else cell


def _fit(text: str, delimiter: str, expected: Collection[str]) -> tuple[int, int]:
    """Rate a delimiter by the header: how many expected names it yields, then how many names."""
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return (-1, 0)
    return (len({name.strip() for name in header} & set(expected)), len(header))
