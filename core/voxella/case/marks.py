"""What a person thinks of a volume: good, bad, artefact or copy, with a note, beside the data set.

``marks.jsonl`` holds one object a line, ``{"case", "mark", "note", "when"}``; of several lines of
one case the last counts, and a mark of null takes the case's mark back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from voxella.case.json_lines import add_json_line, read_json_lines
from voxella.case.manifest import Manifest
from voxella.case.model import LONGEST_ID, Case
from voxella.errors import UserError
from voxella.wording import counted, quoted

__all__ = ["LONGEST_NOTE", "MARKS", "MARK_NAMES", "Mark", "add_mark", "marked_only", "read_marks"]

MARKS = "marks.jsonl"
MARK_NAMES = ("good", "bad", "artefact", "copy")
LONGEST_NOTE = 2000


@dataclass(frozen=True)
class Mark:
    """One line of the file.

    Attributes:
        case: Id of the case.
        mark: One of :data:`MARK_NAMES`; None: taken back.
        note: Free text. Patient data: never in a log, a message or an export.
        when: ISO 8601, in UTC.

    Raises:
        UserError: A field is of another kind, or too long; no note is quoted.
    """

    case: str
    mark: str | None
    note: str = ""
    when: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.case, str) or not 0 < len(self.case) <= LONGEST_ID:
            raise UserError("a mark names no case", expected=f"an id of 1 to {LONGEST_ID} letters")
        if self.mark is not None and self.mark not in MARK_NAMES:
            raise UserError(f"a mark of {quoted(self.mark)}", expected=", ".join(MARK_NAMES))
        if not isinstance(self.note, str) or len(self.note) > LONGEST_NOTE:
            raise UserError("a note is too long", expected=f"at most {LONGEST_NOTE} letters")
        if not isinstance(self.when, str):
            raise UserError("the time of a mark is no text", expected="ISO 8601")


def add_mark(folder: Path, case: str, mark: str | None, note: str = "") -> Mark:
    """Keep a mark beside a data set and return it; None takes the case's mark back.

    Raises:
        UserError: As :class:`Mark`.
    """
    made = Mark(case, mark, note, datetime.now(UTC).isoformat(timespec="seconds"))
    add_json_line(folder / MARKS, asdict(made))
    return made


def read_marks(folder: Path) -> dict[str, Mark]:
    """Return the mark that counts of each case that has one, in the order of their last lines.

    Raises:
        UserError: A line is none; it is named, and nothing of it is quoted.
    """
    path = folder / MARKS
    found: dict[str, Mark] = {}
    for number, line in read_json_lines(path):
        mark = _mark(path, number, line)
        found.pop(mark.case, None)
        if mark.mark is not None:
            found[mark.case] = mark
    return found


def marked_only(dataset: Manifest, names: Collection[str]) -> Manifest:
    """Return the data set with only the cases that bear one of the marks.

    Raises:
        UserError: A mark is none of ours, nothing was marked, or no case bears such a mark.
    """
    for name in names:
        if name not in MARK_NAMES:
            raise UserError(f"a mark of {quoted(name)}", expected=", ".join(MARK_NAMES))
    marks, asked = read_marks(dataset.folder), " or ".join(names)
    kept = [case for case in dataset if case.id in marks and marks[case.id].mark in names]
    if not kept:
        raise UserError(
            f"no case of {dataset.folder} is marked {asked}: "
            f"{counted(_number(marks, dataset), 'case')} of {len(dataset)} bear any mark",
            remedy=f"voxella view {dataset.folder}   (marks are kept in {MARKS})",
        )
    return Manifest(dataset.folder, kept)


def _number(marks: Collection[str], cases: Iterable[Case]) -> int:
    return sum(case.id in marks for case in cases)


def _mark(path: Path, number: int, line: dict[str, Any]) -> Mark:
    fields = Mark.__dataclass_fields__
    try:
        if not {"case", "mark"} <= line.keys() <= fields.keys():
            raise UserError(f"its keys are not {', '.join(fields)}")
        return Mark(**line)
    except UserError as error:
        raise UserError(
            f"{path}, line {number}: {error.problem}",
            expected=error.expected,
            remedy="correct or remove this line",
        ) from None
