"""What readers have answered: one line of JSON each, on the disk before the page goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from voxella.case.json_lines import add_json_line, read_json_lines
from voxella.errors import UserError
from voxella.readers.study import ANSWERS, ReaderStudy
from voxella.wording import quoted

__all__ = ["BEST", "Answer", "add_answer", "next_number", "read_answers"]

BEST = 5  # the highest score of quality; 1 is the lowest
_VERDICTS = ("real", "synthetic")


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        reader: From 1.
        item: Its number in the study.
        verdict: ``real`` or ``synthetic``.
        quality: 1 to :data:`BEST`.
        when: ISO 8601, in UTC.
    """

    reader: int
    item: int
    verdict: str
    quality: int
    when: str = ""


def add_answer(study: ReaderStudy, reader: int, item: int, verdict: str, quality: int) -> Answer:
    """Keep an answer; it takes the place of an earlier one of the same reader and item.

    Raises:
        UserError: There is no such reader or item, or the answer is none.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    given = Answer(reader, item, verdict, quality, now)
    _check(study, given)
    add_json_line(study.folder / ANSWERS, asdict(given))
    return given


def read_answers(study: ReaderStudy) -> dict[tuple[int, int], Answer]:
    """Return by reader and item the answer that counts: the last.

    Raises:
        UserError: A line is none; it is named.
    """
    path = study.folder / ANSWERS
    found: dict[tuple[int, int], Answer] = {}
    for number, line in read_json_lines(path):
        try:
            given = _answer(line)
            _check(study, given)
        except UserError as error:
            raise UserError(
                f"{path}, line {number}: {error.problem}",
                expected=error.expected,
                remedy="correct or remove this line",
            ) from None
        found[given.reader, given.item] = given
    return found


def next_number(
    study: ReaderStudy, reader: int, answers: Mapping[tuple[int, int], Answer]
) -> int | None:
    """Return what a reader has to read next; None: nothing is left."""
    return next((n for n in study.order(reader) if (reader, n) not in answers), None)


def _answer(line: dict[str, Any]) -> Answer:
    fields = set(Answer.__dataclass_fields__)
    if line.keys() != fields:
        raise UserError(f"its keys are not {', '.join(sorted(fields))}")
    return Answer(**line)


def _check(study: ReaderStudy, given: Answer) -> None:
    # A bool is an int to Python, and 1.0 is equal to 1.
    if type(given.reader) is not int or not 1 <= given.reader <= study.readers:
        raise UserError("an answer of no reader of this study", expected=f"1 to {study.readers}")
    if type(given.item) is not int or not 1 <= given.item <= len(study.items):
        raise UserError("an answer to no item of this study", expected=f"1 to {len(study.items)}")
    if given.verdict not in _VERDICTS:
        raise UserError(f"a verdict of {quoted(given.verdict)}", expected=" or ".join(_VERDICTS))
    if type(given.quality) is not int or not 1 <= given.quality <= BEST:
        raise UserError(f"a quality of {quoted(given.quality)}", expected=f"1 to {BEST}")
