"""Importer ``table``: a CSV, Excel or JSON table of image paths, reports and labels.

::

    voxella import table cases.csv --out DATASET --set 'columns={id: Case, t2w: T2 file}'

Images stay where they are unless ``copy`` is set. Light to import: nothing is read, and no imaging
library loaded, before the importer is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from voxella.plugins.contracts import Importer
from voxella.plugins.specs import hookimpl

__all__ = ["table", "voxella_factory"]


def table(
    *,
    source: Path,
    images: Path | None = None,
    reports: Path | None = None,
    columns: Mapping[str, str] | None = None,
    sequences: Sequence[str] = ("t2w",),
    classes: Sequence[str] = ("negative", "positive"),
    labels: Mapping[str, str] | None = None,
    label_source: str = "table",
    texts: Mapping[str, str] | None = None,
    text_files: Mapping[str, str] | None = None,
    conditions: Mapping[str, str] | None = None,
    extra: Sequence[str] = (),
    delimiter: str | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    visible_only: bool = False,
    copy: bool = False,
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float = 0.1,
    parquet_above: int = 100_000,
) -> Importer:
    """Build the table importer.

    Args:
        source: The table: CSV (the delimiter is found out), a workbook (``.xlsx``), JSON
            lines or a JSON list.
        images: Folder that image paths are relative to; None: the table's.
        reports: Folder that report files are relative to; None: the table's.
        columns: The table's column for ``id``, ``group``, ``split``, ``label``,
            ``label_source``, ``report`` (the text itself), ``report_file`` and each sequence, where
            it is not called that. ``id`` and every sequence are needed; ``group`` is
            whose a case is: its patient, its slide. Cases of one group share a split, and
            statistics count groups. Without it (or a column that is called ``patient``) each case
            is a group of its own; without ``split`` a hash of the group decides.
        sequences: The image columns, by sequence name.
        classes: Allowed labels; the recipe's ``data.classes``.
        labels: Class by what the table writes, such as ``{"0": negative}``. A cell that is empty
            means that the label is unknown.
        label_source: Recorded with each label, where no column says it.
        texts: The column of each text of a case by its name, such as ``{report: Report, impression:
            Summary}``; ``report`` may stand in ``columns`` as well.
        text_files: The same for columns that name a text's file.
        conditions: The column of each thing that a model may be conditioned on, by our name, such
            as ``{age: AGE, scanner: Scanner}``: numbers, and codes as in ``extra``. An empty cell
            means that it is not known.
        extra: Columns kept in the manifest; numbers (a decimal comma is understood where the
            delimiter is no comma) and codes of up to 32 characters.
        delimiter: Of a CSV file; None: found out.
        sheet: Of a workbook; None: the only one with anything in it.
        encoding: Of tables and reports that are not UTF-8 and have no byte-order mark, such as
            ``windows-1251``; None: there are none.
        visible_only: Leave out rows that are hidden or filtered out in a workbook.
        copy: Copy the images into the data set.
        seed: Of the split by group.
        val_share: Share of groups held out for validation.
        test_share: Share of groups held out for testing.
        parquet_above: More cases than these become ``manifest.parquet``, which no process reads
            whole, in place of ``manifest.jsonl``.
    """
    from voxella.data.drafts import DatasetWriter
    from voxella_importers.table.reader import TableImporter
    from voxella_importers.table.settings import TableSettings

    settings = TableSettings.of(
        source=source,
        images=images,
        reports=reports,
        columns=columns,
        sequences=sequences,
        classes=classes,
        labels=labels,
        label_source=label_source,
        texts=texts,
        text_files=text_files,
        conditions=conditions,
        extra=extra,
        delimiter=delimiter,
        sheet=sheet,
        encoding=encoding,
        visible_only=visible_only,
    )
    dataset_writer = DatasetWriter(
        copy=copy,
        seed=seed,
        val_share=val_share,
        test_share=test_share,
        parquet_above=parquet_above,
    )
    return TableImporter(settings, dataset_writer)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return table if name == "table" else None
