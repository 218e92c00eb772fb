"""Summaries that somebody has made already, looked up by id."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.limits import TEXT_BYTES
from voxella.plugins.contracts import Report
from voxella.wording import shown_path

__all__ = ["GivenSummariser", "read_given"]


@dataclass
class GivenSummariser:
    """Summaries by id.

    Attributes:
        summaries: One or more of each id, on one line each.
        words: Of a summary, at most.
        fingerprint: Of all of them.
    """

    summaries: Mapping[str, tuple[str, ...]]
    words: int
    fingerprint: str

    def __call__(self, reports: Sequence[Report], *, variant: int = 0) -> list[str]:
        """Return the summary of each report's id; of several the variant's, in turn.

        Raises:
            UserError: An id has none.
        """
        missing = [report.id for report in reports if report.id not in self.summaries]
        if missing:
            raise UserError(
                f"summariser given: {len(missing)} of {len(reports)} ids have no summary in the "
                f"table, the first of them {missing[0]}",
                remedy="add a line for each, or summarise with extractive",
            )
        found = [self.summaries[report.id] for report in reports]
        return [several[variant % len(several)] for several in found]


def read_given(path: Path, id_column: str, summary_column: str, words: int) -> GivenSummariser:
    """Read a table of summaries.

    Raises:
        UserError: The file cannot be read, lacks a column, or holds a summary that is too long.
    """
    if not path.is_file():
        raise UserError(
            f"summariser given: {shown_path(path)} does not exist",
            expected="a CSV or JSON file of summaries",
        )
    try:
        text = TEXT_BYTES.read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{shown_path(path)}: no UTF-8 text (byte {error.start})", remedy="save it as UTF-8"
        ) from None
    if path.suffix.lower() == ".json":
        rows = _from_json(path, text)
    else:
        rows = _from_csv(path, text, id_column, summary_column)
    summaries: dict[str, tuple[str, ...]] = {}
    for name, summary in rows:
        clean = " ".join(summary.split())
        if (count := len(clean.split())) > words:
            raise UserError(
                f"{shown_path(path)}: the summary of {name} has {count} words",
                expected=f"at most {words}; raise words if that is right",
            )
        if clean:
            summaries[name] = (*summaries.get(name, ()), clean)
    return GivenSummariser(summaries, words, f"given {sha256_json(summaries)}")


def _from_csv(path: Path, text: str, key: str, column: str) -> list[tuple[str, str]]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    names = rows.fieldnames or []
    if absent := [name for name in (key, column) if name not in names]:
        raise UserError(
            f"{shown_path(path)}: no column {', '.join(absent)}",
            remedy="name the columns with id_column and summary_column",
        )
    return [(row[key].strip(), row[column] or "") for row in rows if row[key]]


def _from_json(path: Path, text: str) -> list[tuple[str, str]]:
    try:
        found: Any = json.loads(text)
    except ValueError:
        raise UserError(
            f"{shown_path(path)}: no JSON", expected="an object of id to summary"
        ) from None
    rows: list[tuple[str, str]] = []
    for name, value in found.items() if isinstance(found, dict) else ():
        several = [value] if isinstance(value, str) else value
        if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
            raise UserError(
                f"{shown_path(path)}: the entry of one id is neither a text nor a list of texts",
                expected="an object of id to summary, or of id to a list of summaries",
            )
        rows += [(name, one) for one in several]
    if not rows:
        raise UserError(
            f"{shown_path(path)}: no summary in it", expected="an object of id to summary"
        )
    return rows
