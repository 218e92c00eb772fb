"""Cells that may hold free text where a code belongs: gathered, and told a column at a time."""

from __future__ import annotations

from collections.abc import Iterator

from voxella.case_fields import field_problem
from voxella.data.grouping import spans
from voxella.wording import named

__all__ = ["Sentences"]

_NAMED_AT_MOST = 10


class Sentences:
    """What was found, by field and column.

    Args:
        rows: How many the table has.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._found: dict[tuple[str, str], list[tuple[int, str]]] = {}

    def has(self, number: int, field: str, column: str, value: object) -> bool:
        """Note a value that cannot stand in a case's field; tell whether it cannot.

        Args:
            number: Of the row.
            field: Of the case, such as ``group``.
            column: Of the table.
            value: Never kept.
        """
        if (why := field_problem(field, value)) is None:
            return False
        self._found.setdefault((field, column), []).append((number, why))
        return True

    def lines(self) -> Iterator[str]:
        """Yield a line a cell, or a line a column where it is the wrong one in many rows."""
        for (field, column), cells in self._found.items():
            where = f"column {named(column)} as {field}"
            if len(cells) <= _NAMED_AT_MOST:
                for number, why in cells:
                    yield f"row {number}: {where}: {why}: free text is not kept in a manifest"
                continue
            numbers = spans([str(number) for number, _ in cells])
            yield (
                f"{where}: free text is not kept in a manifest, and {len(cells)} of {self._rows} "
                f"rows hold it ({numbers}); the first {cells[0][1]}"
            )
