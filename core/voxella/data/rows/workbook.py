"""Excel workbooks as lines of text, by openpyxl.

The values are those that Excel last computed. openpyxl's own messages may quote cells, so none of
them is passed on.
"""

from __future__ import annotations

import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.data.rows.archive import require_bounded
from voxella.data.rows.cells import cell_note, cell_problem, shown_text
from voxella.data.rows.page import Page, look_at
from voxella.data.rows.table import shown, unreadable
from voxella.errors import UserError
from voxella.limits import CELLS
from voxella.machine import raise_if_machine

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook

__all__ = ["WORKBOOKS", "Sheet", "is_workbook", "read_workbook"]

WORKBOOKS = frozenset({".xlsx", ".xlsm", ".xls", ".xlsb", ".ods"})
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = b"PK\x03\x04"


def is_workbook(path: Path) -> bool:
    """Tell from its first bytes that a file is a workbook, whatever it is called."""
    return _first_bytes(path).startswith((_ZIP, _OLE))


@dataclass(frozen=True)
class Sheet:
    """A sheet's rows as text, and what the user should know of them.

    Attributes:
        rows: All as long as the longest, from row 1 to the last with text.
        notes: Hidden rows, struck-out text and what else is not as it seems.
    """

    rows: list[list[str]]
    notes: list[str]


def read_workbook(
    path: Path,
    expected: Collection[str],
    sheet: str | None = None,
    *,
    numbers: Collection[str] = (),
    visible_only: bool = False,
) -> Sheet:
    """Return a sheet's rows as text.

    A merged cell's value stands in every cell that it covers, so that a patient merged over two
    studies is the patient of both.

    Args:
        path: The workbook.
        expected: Columns that are wanted; what is wrong with others does not matter.
        sheet: Its sheet; None: the only visible one with anything in it.
        numbers: Those of the columns that hold numbers and dates; the others hold ids and words.
        visible_only: Leave out rows that are hidden or filtered out.

    Raises:
        UserError: It is no workbook of the newer format; which sheet is meant is unclear; or cells
            cannot be trusted: formulas never computed, errors, numbers with digits lost, dates in
            the place of ids, texts that Excel has cut. All of them are named, by row and column.
    """
    _check_kind(path)
    require_bounded(path)
    with _opened(path, data_only=True) as values, _opened(path, data_only=False) as formulas:
        title = _sheet(path, values, sheet)
        rows: list[list[str]] = []
        problems: list[str] = []
        odd: Counter[tuple[str, str]] = Counter()
        cells = 0
        pages = zip(_cells(values, title), _cells(formulas, title), strict=False)
        for number, (row, written) in enumerate(pages, start=1):
            cells += len(row)  # with those that it leaves out before its last
            CELLS.require(cells, f"{path}: rows 1 to {number:,} of sheet {shown([title])}")
            rows.append([shown_text(cell) for cell in row])
            for index, name in enumerate(rows[0][: len(row)]):
                if name not in expected or number == 1:
                    continue
                then = written[index] if index < len(written) else None
                as_number = name in numbers
                if wrong := cell_problem(row[index], then, as_number=as_number):
                    problems.append(f"{path}: row {number}, column {shown([name])}: {wrong}")
                elif as_number and (note := cell_note(row[index])):
                    odd[name, note] += 1
    if problems:
        raise UserError("\n".join(problems), remedy="fix the workbook and import again")
    columns = {i: name for i, name in enumerate(rows[0], 1) if name in expected} if rows else {}
    with _opened(path, data_only=True, read_only=False) as book:
        # Only a workbook that is loaded whole knows what is merged and hidden.
        page = look_at(book[title], len(rows), columns)
    notes = page.notes(rows, columns, visible_only=visible_only)
    notes += [
        f"column {shown([name])}: {count} {note}; they are read as they are stored"
        for (name, note), count in odd.items()
    ]
    rows = _unmerged(rows, page)
    if visible_only:
        # Left empty, so that the others keep their numbers.
        rows = [[] if n in page.hidden_rows and n > 1 else row for n, row in enumerate(rows, 1)]
    return Sheet(_even(path, rows), notes)


def _check_kind(path: Path) -> None:
    """Refuse, by the first bytes, what openpyxl does not read."""
    start = _first_bytes(path)
    if start.startswith(_OLE):
        raise UserError(
            f"{path}: an old Excel file (.xls), or a workbook with a password",
            remedy="save it as .xlsx without a password, or as CSV",
        )
    if not start.startswith(_ZIP):
        raise UserError(
            f"{path}: called a workbook, and is none (a renamed CSV or HTML file?)",
            remedy="if it opens in a text editor, name it .csv; else save it as .xlsx again",
        )


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(len(_OLE))
    except OSError as error:
        raise unreadable(path, error) from error


@contextmanager
def _opened(path: Path, *, data_only: bool, read_only: bool = True) -> Iterator[Workbook]:
    """Open a workbook, turning whatever openpyxl raises over a damaged one into one message."""
    from openpyxl import load_workbook

    try:
        # Given a handle, openpyxl does not judge by the name.
        with path.open("rb") as handle, warnings.catch_warnings():
            # It warns of styles and validation rules that it leaves out.
            warnings.simplefilter("ignore")
            options = {"data_only": data_only, "read_only": read_only, "rich_text": not read_only}
            with closing(load_workbook(handle, **options)) as book:
                yield book
    except UserError:
        raise
    except Exception as error:
        raise_if_machine(error, path)
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the file itself; a damaged archive sends its reader to impossible places
        cut = isinstance(error, zipfile.BadZipFile)
        kind = "truncated" if cut else "damaged or of another kind"
        raise UserError(
            f"{path}: not an .xlsx workbook that can be read: {kind}",
            remedy="save it as .xlsx again, or as CSV",
        ) from None


def _sheet(path: Path, book: Workbook, wanted: str | None) -> str:
    """Return the title of the sheet that is meant."""
    every = {page.title: page for page in book.worksheets}
    if wanted is not None:
        if wanted not in every:
            raise UserError(
                f"{path}: it has no sheet of that name",
                expected=shown(every),
                remedy="--set sheet=NAME, the name as it stands there",
            )
        return wanted
    visible = [title for title, page in every.items() if page.sheet_state == "visible"]
    filled = [title for title in visible if any(_filled(row) for row in _cells(book, title))]
    if len(filled) > 1:
        raise UserError(
            f"{path}: {len(filled)} sheets have something in them",
            expected=shown(filled),
            remedy="name one, --set sheet=NAME, or leave one sheet in the workbook",
        )
    if not filled:
        raise UserError(f"{path}: the table is empty")
    return filled[0]


def _cells(book: Workbook, title: str) -> Iterator[tuple[Any, ...]]:
    page = book[title]
    # What a file says of its size is wrong often enough, and rows beyond it would be lost.
    page.reset_dimensions()
    yield from page.iter_rows()


def _filled(row: tuple[Any, ...]) -> bool:
    return any(cell.value is not None for cell in row)


def _unmerged(rows: list[list[str]], page: Page) -> list[list[str]]:
    """Write a merged cell's text into all the cells that it covers."""
    widest = max(map(len, rows), default=0)
    for left, top, end, bottom in page.merged:
        text, right = _at(rows, top, left), min(end, widest)
        for number in range(top, min(bottom, len(rows)) + 1):
            row = rows[number - 1]
            row.extend([""] * (right - len(row)))
            row[left - 1 : right] = [text] * max(0, right - left + 1)
    return rows


def _at(rows: list[list[str]], row: int, column: int) -> str:
    there = row <= len(rows) and column <= len(rows[row - 1])
    return rows[row - 1][column - 1] if there else ""


def _even(path: Path, rows: list[list[str]]) -> list[list[str]]:
    """Cut empty rows and columns at the end; make all rows equally long."""
    while rows and not any(rows[-1]):
        rows.pop()
    width = max((index for row in rows for index, text in enumerate(row, 1) if text), default=0)
    CELLS.require(len(rows) * width, f"{path}: its last cells with text span")
    return [(row + [""] * width)[:width] for row in rows]
