"""PI-CAI's marksheet: one row per study, whose lesion columns are lists in quotes.

The lists of one row may have different lengths (``N/A`` is dropped from ``lesion_ISUP`` but kept in
the others), so no two of them are ever paired.

PI-CAI's official splits: five folds of training and validation studies, no test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from voxella.case import ConditionValue, Split
from voxella.data.rows.read import Row, read_table, read_text
from voxella.errors import UserError
from voxella.plain_json import parse_json
from voxella.texts.placeholders import is_nothing
from voxella.wording import named, quoted

__all__ = ["LabelRule", "Mark", "read_marksheet", "read_splits"]

_NEEDED = ("patient_id", "study_id", "case_ISUP")
_NUMBERS = ("patient_age", "psa", "psad", "prostate_volume")
# What a model may be conditioned on: our name, and the fact's.
_CONDITIONS = {
    "age": "patient_age",
    "psa": "psa",
    "psad": "psad",
    "volume": "prostate_volume",
    "center": "center",
}

LabelRule = Literal["pirads_then_isup", "pirads", "isup"]


@dataclass(frozen=True)
class Mark:
    """What the marksheet says of one study.

    Attributes:
        pirads: Highest PI-RADS of its lesions, 1 to 5; None where none is given.
        isup: ISUP grade of the case, 0 to 5; None where the cell is empty.
        facts: Age, PSA, volume, center and the two above, where given.
    """

    pirads: int | None
    isup: int | None
    facts: dict[str, Any]

    @property
    def conditions(self) -> dict[str, ConditionValue]:
        """Return what a model may be conditioned on: age in years, PSA, its density, ml, center."""
        found = {name: self.facts.get(fact) for name, fact in _CONDITIONS.items()}
        return {name: value for name, value in found.items() if value not in (None, "")}


def read_marksheet(
    labels: Path, *, encoding: str | None = None, visible_only: bool = False
) -> dict[str, Mark]:
    """Read the marksheet of a ``picai_labels`` folder, or the file itself, by case id.

    Args:
        labels: Folder or file.
        encoding: Of a file that is not UTF-8 and has no byte-order mark.
        visible_only: Leave out the hidden rows of a workbook.

    Raises:
        UserError: It is absent, lacks a column, or rows are wrong: all of them, by number.
    """
    path = labels / "clinical_information" / "marksheet.csv" if labels.is_dir() else labels
    if not path.is_file():
        raise UserError(
            f"{labels}: no marksheet there ({path} does not exist)",
            remedy="give labels the picai_labels folder, or the marksheet.csv itself",
        )
    table = read_table(path, _NEEDED, encoding=encoding, visible_only=visible_only)
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}: not PI-CAI's marksheet")
    marks: dict[str, Mark] = {}
    problems: list[str] = []
    for row in table.rows:
        case = f"{row.cells['patient_id']}_{row.cells['study_id']}"
        if case in marks:
            problems.append(f"{path}: row {row.number}: study {named(case)} is duplicated")
        try:
            marks[case] = _mark(row)
        except ValueError as error:
            problems.append(f"{path}: row {row.number}: {error}")
    if problems:
        raise UserError("\n".join(problems))
    return marks


def _mark(row: Row) -> Mark:
    pirads = _highest_pirads(row.cells.get("lesion_PIRADS", ""))
    told = row.cells["case_ISUP"]
    isup = None if is_nothing(told) else _grade("case_ISUP", told, 0)
    facts: dict[str, Any] = {"pirads": pirads, "isup": isup, "center": row.cells.get("center")}
    for name in _NUMBERS:
        if not is_nothing(cell := row.cells.get(name, "")):
            facts[name] = _number(name, cell)
    return Mark(pirads, isup, {key: value for key, value in facts.items() if value is not None})


def _highest_pirads(cell: str) -> int | None:
    """Return the highest score of a list such as ``4,N/A,3``; lesions without one do not count."""
    scores = [part.strip() for part in cell.split(",")]
    known = [_grade("lesion_PIRADS", s, 1) for s in scores if not is_nothing(s)]
    return max(known, default=None)


def _grade(column: str, text: str, lowest: int) -> int:
    # pandas turns a column of integers with gaps into 3.0.
    number = text.removesuffix(".0")
    if number not in {str(grade) for grade in range(lowest, 6)}:
        raise ValueError(f"{column} is {quoted(text)}, not {lowest} to 5")
    return int(number)


def _number(column: str, text: str) -> float | int:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{column} is {quoted(text)}, not a number") from None
    return int(value) if value.is_integer() else value


def read_splits(splits: Path, fold: int) -> dict[str, Split]:
    """Return the split of every study of one fold.

    Args:
        splits: ``splits.json``, a list of ``{"train": [ids], "val": [ids]}``, or its folder.
        fold: Which, from 0.

    Raises:
        UserError: There is no such file, it is no such list, or there is no such fold.
    """
    candidates = [splits, splits / "splits.json", splits / "picai" / "splits.json"]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise UserError(f"{splits}: no splits.json there")
    try:
        folds = parse_json(read_text(path)[0])
        pairs = [[(name, part[name]) for name in ("train", "val")] for part in folds]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        problem = f'{path}: not a list of {{"train": [...], "val": [...]}}'
        raise UserError(problem) from error
    if not 0 <= fold < len(pairs):
        raise UserError(f"{path}: there is no fold {fold}", expected=f"0 to {len(pairs) - 1}")
    chosen: dict[str, Split] = {}
    for case in pairs[fold][0][1]:
        chosen[str(case)] = "train"
    for case in pairs[fold][1][1]:
        chosen[str(case)] = "val"
    return chosen
