"""The page of a study: its tables with verdicts, then every run's sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.report.cells import Cell, make_cell
from voxella.report.page import PICTURES, Chapter, page_html, run_chapter
from voxella.report.run_folder import RunFolder
from voxella.report.section import shortened
from voxella.report.side_by_side import side_by_side
from voxella.report.whole_volumes import VOLUMES
from voxella.study.written import TABLES

__all__ = ["TABLE", "StudyTable", "study_page"]

TABLE = "table.json"
# Of each run; a study has up to a dozen.
_CASES = 3
# Cases that all runs are shown with, side by side.
_PICTURES = 6
_NOTES = ("repeated", "paper_lines", "unfinished")


@dataclass(frozen=True)
class StudyTable:
    """One table of the study.

    Attributes:
        name: Its own.
        description: In words.
        headings: Of the columns.
        rows: Recipe, chapter's anchor ("" without), cells.
        notes: Which of the paper's numbers are not shown, and which recipes are not finished.
        verdicts: By the claim in the paper's words: answer and sentence.
    """

    name: str
    description: str
    headings: list[str]
    rows: list[tuple[str, str, list[Cell]]]
    notes: list[str]
    verdicts: dict[str, list[tuple[str, str]]]


def study_page(folder: Path, *, cases: int, with_reports: bool, viewer: bool = False) -> str:
    """Return the page of a study.

    Args:
        folder: Holds ``table.json`` and the runs.
        cases: Pairs of volumes of each run at most; never more than a few.
        with_reports: Show the prompts' text.
        viewer: Put whole volumes and their viewer into the page.

    Raises:
        UserError: A file of a run cannot be read.
    """
    found = TABLES.read(folder / TABLE) or {}
    tables: list[dict[str, Any]] = found.get("tables", [])
    names = dict.fromkeys(str(row["run"]) for table in tables for row in table["rows"])
    runs = {name: _open(folder / name) for name in names}
    opened = {name: run for name, run in runs.items() if run is not None}
    chapters: dict[str, Chapter] = {
        name: run_chapter(
            run,
            cases=min(cases, _CASES),
            budget=PICTURES // len(opened),
            with_reports=with_reports,
            id=f"run-{number}",
            volumes=VOLUMES // len(opened) if viewer else 0,
        )
        for number, (name, run) in enumerate(opened.items(), start=1)
    }
    pictured = [(name, chapters[name].id, run) for name, run in opened.items()]
    return page_html(
        "study.html",
        list(chapters.values()),
        with_reports=with_reports,
        viewer=viewer,
        name=str(found.get("study") or folder.name),
        tables=[_table(table, chapters) for table in tables],
        grid=side_by_side(pictured, _PICTURES),
    )


def _open(run: Path) -> RunFolder | None:
    """Return a run, or None where it was not begun."""
    begun = [run / "recipe.yaml", *run.glob("classify/*/recipe.yaml")]
    return RunFolder.open(run) if any(path.is_file() for path in begun) else None


def _table(table: Mapping[str, Any], chapters: Mapping[str, Chapter]) -> StudyTable:
    metrics = [str(column["metric"]) for column in table["columns"]]
    rows = []
    for row in table["rows"]:
        chapter = chapters.get(str(row["run"]))
        cells = [make_cell(row["cells"][metric]) for metric in metrics]
        rows.append((str(row["recipe"]), "" if chapter is None else chapter.id, cells))
    verdicts: dict[str, list[tuple[str, str]]] = {}
    for verdict in table.get("verdicts", []):
        told = (str(verdict["answer"]), str(verdict["sentence"]))
        verdicts.setdefault(str(verdict["text"]), []).append(told)
    return StudyTable(
        str(table["name"]),
        str(table.get("description") or ""),
        [str(column["heading"]) for column in table["columns"]],
        rows,
        [shortened(str(line)) for key in _NOTES for line in table.get(key, [])],
        verdicts,
    )
