"""A workbook's sheet beyond its cells: what is merged, hidden, filtered out or struck through."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxella.data.grouping import spans
from voxella.data.rows.table import shown

if TYPE_CHECKING:
    from openpyxl.worksheet.worksheet import Worksheet

__all__ = ["Page", "look_at"]


@dataclass(frozen=True)
class Page:
    """What a sheet says of its cells.

    Attributes:
        merged: Left, top, right and bottom of merged cells, from 1.
        hidden_rows: Numbers of the rows that are not shown, by hand or by a filter.
        hidden_columns: Letters of columns that are not shown.
        filtered: A filter is set.
        struck: Numbers of the rows with text that is struck through.
    """

    merged: tuple[tuple[int, int, int, int], ...]
    hidden_rows: frozenset[int]
    hidden_columns: frozenset[int]
    filtered: bool
    struck: tuple[int, ...]

    def notes(
        self, rows: list[list[str]], columns: Mapping[int, str], *, visible_only: bool
    ) -> list[str]:
        """Return what the user should know of what is read though it is not seen.

        Args:
            rows: The cells' text, the header first.
            columns: Names of the columns that are wanted, by number from 1.
            visible_only: Hidden rows are left out.
        """
        hidden = [
            str(number)
            for number, row in enumerate(rows, start=1)
            if number > 1 and number in self.hidden_rows and any(row)
        ]
        notes = []
        if hidden:
            by = "hidden or filtered out" if self.filtered else "hidden"
            done = "left out" if visible_only else "read like the others"
            other = "" if visible_only else " (leave them out: --set visible_only=true)"
            notes.append(f"{len(hidden)} rows are {by} and {done}: {spans(hidden)}{other}")
        unseen = [name for number, name in columns.items() if number in self.hidden_columns]
        if unseen:
            notes.append(f"columns that are hidden are read: {shown(unseen)}")
        if self.struck:
            rows_told = spans([str(number) for number in self.struck])
            notes.append(
                f"text that is struck through is read as if it were not, in {len(self.struck)} "
                f"rows: {rows_told}"
            )
        return notes


def look_at(page: Worksheet, height: int, columns: Collection[int]) -> Page:
    """Return what a sheet, loaded whole with rich text, says of its cells.

    Args:
        page: The sheet.
        height: Number of the last row that has something in it.
        columns: Numbers of the columns that are wanted, from 1.
    """
    default = bool(page.sheet_format.zeroHeight)
    told = page.row_dimensions
    rows = range(1, height + 1)
    hidden = {n for n in rows if (_is_hidden(told[n]) if n in told else default)}
    filters = [page.auto_filter, *(table.autoFilter for table in page.tables.values())]
    return Page(
        merged=tuple(area.bounds for area in page.merged_cells.ranges),
        hidden_rows=frozenset(hidden),
        hidden_columns=frozenset(_hidden_columns(page)),
        filtered=any(one is not None and one.filterColumn for one in filters),
        struck=tuple(
            number
            for number in rows
            if any(_is_struck(page.cell(number, column)) for column in columns)
        ),
    )


def _is_hidden(row: Any) -> bool:  # noqa: ANN401 - openpyxl's dimensions are loosely typed
    # Less than a point is not seen.
    return bool(row.hidden) or (row.ht is not None and row.ht < 1)


def _hidden_columns(page: Worksheet) -> set[int]:
    found: set[int] = set()
    for column in page.column_dimensions.values():
        if column.hidden or column.width == 0:
            first = column.min or 1
            # One entry may hide all that are to the right.
            found |= set(range(first, min(column.max or first, first + 1000) + 1))
    return found


def _is_struck(cell: Any) -> bool:  # noqa: ANN401 - openpyxl's cell classes share no base
    from openpyxl.cell.rich_text import CellRichText

    value = cell.value
    if value is None:
        return False
    if isinstance(value, CellRichText):
        return any(bool(getattr(getattr(run, "font", None), "strike", None)) for run in value)
    return bool(getattr(cell.font, "strike", None))
