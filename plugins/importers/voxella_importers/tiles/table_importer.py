"""A folder of tiles with a table: rows as of the importer ``table``, grouped by slide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from voxella.case import Manifest
from voxella.case.texts import REPORT
from voxella.data.drafts import CaseDraft, DatasetWriter
from voxella.data.reports import Report
from voxella.data.rows.read import Row, Table, read_table
from voxella.errors import UserError
from voxella_importers.captions import CaptionRule, caption, class_number
from voxella_importers.table.reader import drafts_of, read_rows
from voxella_importers.table.settings import TableSettings
from voxella_importers.tile_cases import IMAGE, TIL, TUMOR
from voxella_importers.tiles.pack import pack

__all__ = ["TileTableImporter", "table_of"]

_TABLES = (".csv", ".tsv", ".xlsx", ".json", ".jsonl")
_GROUPS = ("group", "slide", "patient")


def table_of(source: Path) -> Path:
    """Return the one table of a folder, or the table itself.

    Raises:
        UserError: There is none, or several.
    """
    if source.is_file():
        return source
    found = sorted(p for p in source.glob("*") if p.suffix.lower() in _TABLES)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(
            f"importer tiles: one table is needed in {source}; found: {names}",
            expected="a table of tiles; or PathLDM's layout: one .hdf5, train.npz and test.npz",
            remedy="name it: voxella import tiles FOLDER/TABLE.csv --out DATASET",
        )
    return found[0]


class TileTableImporter:
    """Reads a table of tiles into a data set folder.

    Args:
        settings: Of the table; its one sequence is ``he``.
        rule: Levels and thresholds of captions and classes.
        captions: Where a probability is known, texts begin with its level.
        dataset_writer: How drafts become a data set.
    """

    def __init__(
        self,
        settings: TableSettings,
        rule: CaptionRule,
        *,
        captions: bool,
        dataset_writer: DatasetWriter,
    ) -> None:
        problems = [*settings.problems(), *dataset_writer.problems(), *rule.problems()]
        if problems:
            raise UserError("\n".join(f"importer tiles: {problem}" for problem in problems))
        self.settings = settings
        self.rule = rule
        self.captions = captions
        self.dataset_writer = dataset_writer

    def __call__(self, out: Path) -> Manifest:
        """Write texts and the manifest (and tiles, where they are copied) under ``out``.

        Raises:
            UserError: As the importer ``table``; or no column says which slide a tile is of.
        """
        settings = self._of_columns(self._header())
        drafts = drafts_of(settings, _with_ids(read_rows(settings), settings), Path(out))
        drafts = [self._told(draft) for draft in drafts]
        if self.dataset_writer.copy:
            pack(drafts, Path(out))
        return replace(self.dataset_writer, copy=False).write(drafts, Path(out))

    def _header(self) -> list[str]:
        settings = self.settings
        known = ("id", "file", IMAGE, *_GROUPS, TUMOR, TIL, *settings.columns.values())
        table = read_table(
            settings.source,
            [*known, *settings.extra, *settings.conditions.values()],
            settings.delimiter,
            settings.sheet,
            encoding=settings.encoding,
        )
        return table.columns

    def _of_columns(self, columns: list[str]) -> TableSettings:
        """Return the settings with what the table itself says: its slides, its probabilities."""
        settings = self.settings
        named = dict(settings.columns)
        if "group" not in named:
            group = next((name for name in _GROUPS if name in columns), None)
            if group is None:
                raise UserError(
                    f"{settings.source}: no column says which slide a tile is of; without it a "
                    "slide would be trained on and tested on",
                    expected=", ".join(_GROUPS),
                    remedy="name it: --set 'columns={group: YOURS}'",
                )
            named["group"] = group
        if IMAGE not in named and IMAGE not in columns and "file" in columns:
            named[IMAGE] = "file"
        there = {name: name for name in (TUMOR, TIL) if name in columns}
        return replace(settings, columns=named, conditions={**there, **settings.conditions})

    def _told(self, draft: CaseDraft) -> CaseDraft:
        """Add caption and class by probability."""
        try:
            tumor, til = (_number(draft, name) for name in (TUMOR, TIL))
            number = class_number(self.rule, tumor, til)
            summary = draft.texts.get(REPORT)
            told = "" if summary is None else summary.text
            text = caption(self.rule, tumor, til, told) if self.captions else told
        except ValueError as error:
            raise UserError(f"{self.settings.source}: tile {draft.id}: {error}") from None
        if self.captions and text:
            encoding = "utf-8" if summary is None else summary.encoding
            draft.texts = {**draft.texts, REPORT: Report(text, encoding)}
        if draft.label is None and number is not None:
            draft.label, draft.label_source = str(number), "probability"
        return draft


def _number(draft: CaseDraft, name: str) -> float | None:
    value = draft.conditions.get(name)
    if value is None or not isinstance(value, str):
        return value
    raise ValueError(f"{name} is no number")


def _with_ids(table: Table, settings: TableSettings) -> Table:
    """Return a table whose tiles have ids: where no column has them, their files' names."""
    column, image = settings.column("id"), settings.column(IMAGE)
    if column in table.columns or "id" in settings.columns:
        return table
    rows = [
        Row(row.number, {**row.cells, column: Path(row.cells.get(image, "")).stem})
        for row in table.rows
    ]
    return replace(table, columns=[*table.columns, column], rows=rows)
