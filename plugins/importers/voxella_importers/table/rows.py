"""Rows of a table to drafts of cases, with every problem of every row at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from voxella.case import Case, Split
from voxella.case.texts import REPORT, in_order
from voxella.data.cells import SPLITS, located, number_or_text
from voxella.data.drafts import CaseDraft
from voxella.data.grouping import image_problem, spans
from voxella.data.reports import Report, ReportReader
from voxella.data.rows.read import Row, Table, shown
from voxella.errors import UserError
from voxella.imaging.headers import image_suffix
from voxella.texts.ids import id_problem, trimmed
from voxella.texts.placeholders import is_nothing
from voxella.wording import MOST_WORDS, quoted, shown_path, why_no_code
from voxella_importers.table.sentences import Sentences
from voxella_importers.table.settings import TableSettings

__all__ = ["TableRows"]

_LONGEST_CODE = 32
_NAMED_AT_MOST = 10


class TableRows:
    """Rows to drafts, gathering problems on the way."""

    def __init__(self, settings: TableSettings, table: Table, out: Path) -> None:
        self.settings = settings
        self.table = table
        self.problems: list[str] = []
        self.reports = ReportReader(out, settings.encoding)
        self.nameless = 0
        self._row_of: dict[str, int] = {}
        self._sentences = Sentences(len(table.rows))
        # Rows without their image file, and the first such file, by sequence.
        self._labels: dict[str, list[int]] = {}
        self._absent: dict[str, list[tuple[int, str]]] = {}

    def check_columns(self) -> None:
        """Refuse a table without the columns that are needed or named.

        Raises:
            UserError: Naming them, and the columns that there are.
        """
        settings = self.settings
        needed = {"id", *settings.sequences, *settings.columns}
        wanted = [settings.column(field) for field in sorted(needed)]
        wanted += [*settings.extra, *settings.conditions.values()]
        named = {**settings.text_files, **settings.texts}
        wanted += [column for name, column in named.items() if name != REPORT]
        missing = [name for name in wanted if name not in self.table.columns]
        if missing:
            raise UserError(
                f"{settings.source}: no column {shown(missing)}",
                expected=shown(self.table.columns),
                remedy="map our names to yours: --set 'columns={id: YOURS, ...}'",
            )
        if not self.table.rows:
            raise UserError(f"{settings.source}: columns but no row")

    def draft(self, row: Row) -> CaseDraft | None:
        """Return a row's draft, or None when it has no usable id."""
        case = self._id(row)
        if case is None:
            return None
        return CaseDraft(
            id=case,
            group=self._group(row) or case,
            images=dict(self._images(row)),
            texts=dict(self._texts(row)),
            label=self._label(row),
            label_source=self._label_source(row),
            split=self._split(row),
            conditions=dict(self._kept(row, self.settings.conditions)),
            extra=dict(self._kept(row, {name: name for name in self.settings.extra})),
        )

    def check_relations(self, drafts: list[CaseDraft]) -> None:
        """Note groups whose cases stand in several splits."""
        first: dict[str, CaseDraft] = {}
        for draft in drafts:
            other = first.setdefault(draft.group, draft)
            if other.split != draft.split:
                rows = f"rows {self._row_of[other.id]} and {self._row_of[draft.id]}"
                self.problems.append(f"{rows}: one group in {other.split} and {draft.split}")

    def check_texts(self) -> None:
        """Note cells that hold free text where a code belongs."""
        self.problems += self._sentences.lines()

    def check_labels(self) -> None:
        """Note labels that are no class: of one that many rows have, once."""
        for found, rows in self._labels.items():
            where = f"{len(rows)} of {len(self.table.rows)} rows ({spans([str(n) for n in rows])})"
            few = [f"row {number}: {found}" for number in rows]
            self.problems += few if len(few) <= _NAMED_AT_MOST else [f"{where}: {found}"]

    def check_images(self) -> None:
        """Note image files that are absent: a wrong folder is one problem, not one a row."""
        for sequence, absent in self._absent.items():
            few = [f"row {number}: {sequence}: {path}: no such file" for number, path in absent]
            rows = spans([str(number) for number, _ in absent])
            many = (
                f"{sequence}: no such file in {len(absent)} of {len(self.table.rows)} rows "
                f"({rows}), the first {absent[0][1]}"
            )
            self.problems += few if len(few) <= _NAMED_AT_MOST else [many]

    def notes(self) -> list[str]:
        """Return what to warn of: cells that say that there is nothing."""
        notes = self.reports.notes()
        if self.nameless:
            notes.append(
                f"{self.nameless} rows name no group (nan, N/A, - or the like); each of their "
                "cases counts as a group of its own"
            )
        return notes

    def _cell(self, row: Row, field: str) -> str:
        cell = row.cells.get(self.settings.column(field), "")
        return trimmed(cell)

    def _note(self, row: Row, problem: str) -> None:
        self.problems.append(f"row {row.number}: {problem}")

    def _id(self, row: Row) -> str | None:
        case = self._cell(row, "id")
        if not case:
            self._note(row, "no id")
            return None
        if problem := id_problem(case):
            self._note(row, f"its id {problem}")
            return None
        try:
            Case(id=case, group="", images={})
        except ValidationError:
            # Not quoted: the wrong column may be mapped to it.
            self._note(row, "an id is letters, digits and _ . - only, 128 at most")
            return None
        if case in self._row_of:
            self._note(row, f"id {case} stands in row {self._row_of[case]} already")
            return None
        self._row_of[case] = row.number
        return case

    def _group(self, row: Row) -> str:
        group = self._cell(row, "group")
        if is_nothing(group):
            self.nameless += bool(group)
            return ""
        if self._is_sentence(row, "group", group):
            return ""
        if problem := id_problem(group):
            self._note(row, f"its group {problem}")
        return group

    def _is_sentence(self, row: Row, field: str, value: object, column: str = "") -> bool:
        name = column or self.settings.column(field)
        return self._sentences.has(row.number, field, name, value)

    def _images(self, row: Row) -> Iterator[tuple[str, Path]]:
        for sequence in self.settings.sequences:
            cell = self._cell(row, sequence)
            if not cell:
                self._note(row, f"no {sequence} image")
            elif image_suffix(Path(cell)) is None or "\n" in cell or "\0" in cell:
                # Not quoted: this may be a report in the wrong column.
                self._note(row, f"{sequence} does not name an image file (.nii.gz, .mha, .png)")
            else:
                path = located(self.settings.images, cell)
                # What is no file may be a sentence; it ends like a file's name by chance.
                shown = shown_path(path, most_words=MOST_WORDS)
                column = self.settings.column(sequence)
                if not os.path.exists(path):
                    self._absent.setdefault(sequence, []).append((row.number, shown))
                elif self._is_sentence(row, "images", str(path), column):
                    continue
                elif problem := image_problem(sequence, path):
                    self._note(row, f"{problem} ({shown})")
                yield sequence, path

    def _texts(self, row: Row) -> Iterator[tuple[str, Report]]:
        for name in in_order({*self.settings.texts, *self.settings.text_files}):
            if (text := self._text(row, name)) is not None:
                yield name, text

    def _text(self, row: Row, name: str) -> Report | None:
        inline = row.cells.get(self.settings.texts.get(name, ""), "")
        named = trimmed(row.cells.get(self.settings.text_files.get(name, ""), ""))
        if inline and named:
            self._note(row, f"a {name} and a {name}_file; one of them is enough")
        try:
            if is_nothing(named):
                return self.reports.inline(inline, self.table.encoding)
            return self.reports.file(located(self.settings.reports, named))
        except ValueError as error:
            self._note(row, f"its {name}{'' if is_nothing(named) else ' file'} {error}")
            return None

    def _label(self, row: Row) -> str | None:
        cell = self._cell(row, "label")
        label = self.settings.labels.get(cell, cell)
        if label in self.settings.classes:
            return label
        if is_nothing(label):
            return None
        told = "" if why_no_code(cell, longest=_LONGEST_CODE, most_words=1) else f" {quoted(cell)}"
        expected = shown([*self.settings.classes, *self.settings.labels])
        remedy = "(map it: --set 'labels={...}', or name it: --set 'classes=[...]')"
        self._labels.setdefault(f"label{told} is none of {expected} {remedy}", []).append(
            row.number
        )
        return None

    def _label_source(self, row: Row) -> str:
        source = self._cell(row, "label_source")
        if self._is_sentence(row, "label_source", source):
            return ""
        return source or self.settings.label_source

    def _split(self, row: Row) -> Split | None:
        if self.settings.column("split") not in self.table.columns:
            return None
        split = SPLITS.get(self._cell(row, "split").lower())
        if split is None:
            self._note(row, f"its split is none of {', '.join(SPLITS)}")
        return split

    def _kept(self, row: Row, columns: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
        """Yield numbers and codes by our name of them; nothing of a cell that says nothing."""
        for name, column in columns.items():
            cell = row.cells[column]
            if len(cell) > _LONGEST_CODE or len(cell.split()) > 1:
                self._note(
                    row,
                    f"{shown([column])} is longer than {_LONGEST_CODE} characters or more than one "
                    "word: free text is not kept in a manifest, numbers and short codes are",
                )
            elif not is_nothing(cell):
                comma = self.table.delimiter not in {",", None}
                yield name, number_or_text(cell, decimal_comma=comma)
