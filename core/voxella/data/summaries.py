"""Summaries of a data set's reports: each distinct report once, kept by its hash."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.files import write_text_atomic
from voxella.hashing import sha256_bytes
from voxella.limits import TEXT_BYTES
from voxella.plugins.contracts import Report, Summariser
from voxella.progress import Steps

__all__ = ["TABLE", "TOO_LONG", "Summarised", "summarise_reports"]

TABLE = "summaries.csv"
TOO_LONG = "too_long.txt"
_COLUMNS = ("id", "variant", "summary", "report_sha256", "summariser")
_Key = tuple[str, str, int]  # summariser, hash of the report, variant
# Reports between two writings of the table: what a stop may cost.
_AT_A_TIME = 16


@dataclass(frozen=True)
class Summarised:
    """What was summarised. No text: that is in the table alone.

    Attributes:
        table: The CSV file.
        reports: Distinct reports.
        kept: Summaries that an earlier run had made.
        made: New summaries.
        without: Cases without a report.
        too_long: Ids of summaries that a text encoder would cut; empty where nobody counted.
    """

    table: Path
    reports: int
    kept: int
    made: int
    without: int
    too_long: tuple[str, ...] = field(default=())


def summarise_reports(
    dataset: Manifest,
    summariser: Summariser,
    out: Path,
    *,
    variants: int = 1,
    count_tokens: Callable[[str], int] | None = None,
    max_tokens: int = 154,
    prefix: str = "",
) -> Summarised:
    """Write ``out/summaries.csv``: a line per report and variant.

    A line's id is the group's (the patient's, the slide's) where all its cases have one report,
    else the case's. The table is what the summariser ``given`` and importers read.

    Args:
        dataset: Whose reports.
        summariser: What makes the summaries.
        out: The folder; summaries of equal reports by the same summariser that are there are kept.
        variants: Independent summaries of each report.
        count_tokens: Of a text, with those that stand at its ends; None: nobody counts.
        max_tokens: Tokens that a text encoder reads.
        prefix: What stands before a summary in a caption, and takes tokens of it.

    Raises:
        UserError: There is no report; the summariser refuses one; the table there is none of ours.
    """
    if variants < 1:
        raise UserError(f"variants is {variants}", expected="1 or more")
    reports, without = _reports(dataset)
    if not reports:
        raise UserError(
            f"{dataset.folder}: none of its {len(dataset)} cases has a report to summarise"
        )
    path = out / TABLE
    known = _known(path)
    hashes = {report.id: sha256_bytes(report.text.encode()) for report in reports}
    wanted = [(report, variant) for report in reports for variant in range(variants)]
    name = summariser.fingerprint
    missing = [
        (report, variant)
        for report, variant in wanted
        if (name, hashes[report.id], variant) not in known
    ]
    made = dict(known)
    with Steps("summaries", len(wanted), first=len(wanted) - len(missing)) as steps:
        for number, (report, variant) in enumerate(missing, start=1):
            key = (name, hashes[report.id], variant)
            if key not in made:  # two groups may have one report
                (made[key],) = summariser([report], variant=variant)
            steps.advance()
            if number % _AT_A_TIME == 0:
                _write(path, wanted, hashes, name, made)
    _write(path, wanted, hashes, name, made)
    lines = [(report.id, made[name, hashes[report.id], variant]) for report, variant in wanted]
    too_long = _too_long(lines, count_tokens, max_tokens, prefix)
    if count_tokens is not None:
        write_text_atomic(out / TOO_LONG, "".join(f"{case}\n" for case in too_long))
    return Summarised(
        path, len(reports), len(wanted) - len(missing), len(missing), without, too_long
    )


def _reports(dataset: Manifest) -> tuple[list[Report], int]:
    """Return the distinct reports under the group's id or the case's; cases without one."""
    texts: dict[str, dict[str, str]] = {}
    without = 0
    for case in dataset:
        text = dataset.read_report(case)
        if text.strip():
            texts.setdefault(case.group, {})[case.id] = text
        else:
            without += 1
    found: list[Report] = []
    for group, of_cases in texts.items():
        if len(set(of_cases.values())) == 1:
            found.append(Report(group, next(iter(of_cases.values()))))
        else:
            found += [Report(case, text) for case, text in of_cases.items()]
    return found, without


def _known(path: Path) -> dict[_Key, str]:
    """Return the summaries of an earlier run."""
    if not path.is_file():
        return {}
    rows = csv.DictReader(io.StringIO(TEXT_BYTES.read(path).decode("utf-8-sig"), newline=""))
    if tuple(rows.fieldnames or ()) != _COLUMNS:
        raise UserError(
            f"{path} is no table of summaries that this command wrote",
            expected=f"columns {', '.join(_COLUMNS)}",
            remedy="give --out another folder",
        )
    return {
        (row["summariser"], row["report_sha256"], int(row["variant"])): row["summary"]
        for row in rows
    }


def _write(
    path: Path,
    wanted: Iterable[tuple[Report, int]],
    hashes: Mapping[str, str],
    name: str,
    made: Mapping[_Key, str],
) -> None:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for report, variant in wanted:
        key = (name, hashes[report.id], variant)
        if key in made:
            rows.writerow((report.id, variant, made[key], hashes[report.id], name))
    write_text_atomic(path, text.getvalue())


def _too_long(
    lines: Iterable[tuple[str, str]],
    count_tokens: Callable[[str], int] | None,
    max_tokens: int,
    prefix: str,
) -> tuple[str, ...]:
    if count_tokens is None:
        return ()
    cut = (case for case, text in lines if count_tokens(f"{prefix}{text}") > max_tokens)
    return tuple(dict.fromkeys(cut))
