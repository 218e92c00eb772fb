"""The released CCELLA code's spreadsheet: where each label comes from.

Its columns are folder, PosPIRADS, PosISUP and Label. By the released README, Label is the class;
the released code itself takes it for the split (``train``, ``test``). Both are understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from voxella.case import ConditionValue, Split
from voxella.data.cells import number_or_text
from voxella.data.rows.read import Row, read_table, shown
from voxella.errors import UserError
from voxella.texts.placeholders import is_nothing

__all__ = ["COLUMNS", "Marks", "read_sheet"]

# The last two are ours: the released format has no place for them, and does not mind them.
COLUMNS = ("folder", "PosPIRADS", "PosISUP", "Label", "patient", "label_source")
# Not the released code's either; read where a sheet has them, as what a model is conditioned on.
_NUMBERS = ("age", "psa", "psad", "volume")
_WORDS = {
    **dict.fromkeys(("1", "positive", "pos", "true", "yes"), True),
    **dict.fromkeys(("0", "negative", "neg", "false", "no"), False),
}
_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "test": "test"}
_LONGEST_CODE = 32


@dataclass(frozen=True)
class Marks:
    """What the spreadsheet says of one case; None where it says nothing.

    Attributes:
        pirads: Whether its PI-RADS category is positive.
        isup: Whether its ISUP grade is positive.
        positive: Its class by the column Label.
        split: Its split by the column Label.
        patient: Its patient.
        label_source: Where the label comes from.
        conditions: Its numbers by the columns age, psa, psad and volume, where there are any.
    """

    pirads: bool | None
    isup: bool | None
    positive: bool | None
    split: Split | None
    patient: str | None
    label_source: str | None
    conditions: dict[str, ConditionValue]


def read_sheet(
    path: Path,
    sheet: str | None = None,
    *,
    encoding: str | None = None,
    visible_only: bool = False,
) -> dict[str, Marks]:
    """Return the spreadsheet's rows by folder.

    Args:
        path: The spreadsheet.
        sheet: Of a workbook with several.
        encoding: Of a CSV file that is not UTF-8 and has no byte-order mark.
        visible_only: Leave out the hidden rows of a workbook.

    Raises:
        UserError: It cannot be read, or rows are wrong: all of them, by number.
    """
    table = read_table(
        path,
        [*COLUMNS, *_NUMBERS],
        sheet=sheet,
        encoding=encoding,
        numbers=_NUMBERS,
        visible_only=visible_only,
    )
    missing = [name for name in COLUMNS[:3] if name not in table.columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}", expected=shown(table.columns))
    found: dict[str, Marks] = {}
    problems: list[str] = []
    for row in table.rows:
        folder = PurePosixPath(row.cells["folder"].replace("\\", "/")).as_posix()
        if not row.cells["folder"]:
            problems.append(f"row {row.number}: no folder")
        elif folder in found:
            problems.append(f"row {row.number}: its folder stands in an earlier row already")
        else:
            found[folder] = _marks(row, problems)
    if problems:
        raise UserError("\n".join([f"{path}: {len(problems)} problems", *problems]))
    return found


def _marks(row: Row, problems: list[str]) -> Marks:
    label = row.cells.get("Label", "").lower()
    source = row.cells.get("label_source", "")
    if len(source) > _LONGEST_CODE:
        problems.append(f"row {row.number}: label_source is longer than {_LONGEST_CODE} characters")
    return Marks(
        pirads=_truth(row, "PosPIRADS", problems),
        isup=_truth(row, "PosISUP", problems),
        positive=None if label in _SPLITS else _truth(row, "Label", problems),
        split=_SPLITS.get(label),
        patient=row.cells.get("patient") or None,
        label_source=source or None,
        conditions=dict(_numbers(row, problems)),
    )


def _numbers(row: Row, problems: list[str]) -> Iterator[tuple[str, ConditionValue]]:
    for name in _NUMBERS:
        cell = row.cells.get(name, "")
        if is_nothing(cell):
            continue
        number = number_or_text(cell, decimal_comma=False)
        if isinstance(number, str):
            problems.append(f"row {row.number}: {name} is no number")
        else:
            yield name, number


def _truth(row: Row, column: str, problems: list[str]) -> bool | None:
    cell = row.cells.get(column, "").lower()
    if is_nothing(cell):
        return None
    if cell not in _WORDS:
        problems.append(f"row {row.number}: {column} is neither positive (1) nor negative (0)")
    return _WORDS.get(cell)
