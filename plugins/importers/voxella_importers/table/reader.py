"""What the ``table`` importer does: a table read whole, its rows made into cases."""

from __future__ import annotations

from pathlib import Path

from voxella.case import Manifest
from voxella.data.drafts import CaseDraft, DatasetWriter, warn
from voxella.data.rows.read import Table, read_table
from voxella.errors import UserError
from voxella_importers.table.rows import TableRows
from voxella_importers.table.settings import FIELDS, FORMER_GROUP, TableSettings

__all__ = ["TableImporter", "drafts_of", "read_rows"]


class TableImporter:
    """Reads a table into a data set folder.

    Raises:
        UserError: On construction, naming everything wrong with the settings.
    """

    def __init__(self, settings: TableSettings, dataset_writer: DatasetWriter) -> None:
        problems = [*settings.problems(), *dataset_writer.problems()]
        if problems:
            raise UserError("\n".join(f"importer table: {problem}" for problem in problems))
        self.settings = settings
        self.dataset_writer = dataset_writer

    def __call__(self, out: Path) -> Manifest:
        """Write reports and manifest (and images, where they are copied) under ``out``.

        Raises:
            UserError: All problems of all rows at once, by row number; never a cell's text where
                it could be a report's.
        """
        drafts = drafts_of(self.settings, read_rows(self.settings), Path(out))
        return self.dataset_writer.write(drafts, Path(out))


def read_rows(settings: TableSettings) -> Table:
    """Read the table that settings are about.

    Raises:
        UserError: As :func:`voxella.data.rows.read.read_table`.
    """
    expected = [settings.column(f) for f in (*FIELDS, FORMER_GROUP, *settings.sequences)]
    expected += [*settings.texts.values(), *settings.text_files.values()]
    kept = [*settings.extra, *settings.conditions.values()]
    return read_table(
        settings.source,
        [*expected, *kept],
        settings.delimiter,
        settings.sheet,
        encoding=settings.encoding,
        numbers=[name for name in kept if name not in expected],
        visible_only=settings.visible_only,
    )


def drafts_of(settings: TableSettings, read: Table, out: Path) -> list[CaseDraft]:
    """Return the drafts of a table's rows.

    Raises:
        UserError: All problems of all rows at once, by row number.
    """
    rows = TableRows(settings.of_table(read.columns), read, out)
    rows.check_columns()
    drafts = [draft for row in read.rows if (draft := rows.draft(row)) is not None]
    rows.check_relations(drafts)
    rows.check_labels()
    rows.check_images()
    rows.check_texts()
    if rows.problems:
        count = len(rows.problems)
        raise UserError(
            "\n".join([f"{settings.source}: {count} problems", *rows.problems]),
            remedy="fix the table and import again; nothing was written",
        )
    for note in rows.notes():
        warn(note)
    return drafts
