"""Importer ``tiles``: a folder of tiles with a table, or the layout of PathLDM's released loader.

::

    voxella import tiles FOLDER --out DATASET

Light to import: nothing is read before the importer is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.plugins.contracts import Importer
from voxella.plugins.specs import hookimpl

__all__ = ["tiles", "voxella_factory"]


def tiles(
    *,
    source: Path,
    images: Path | None = None,
    columns: Mapping[str, str] | None = None,
    classes: Sequence[str] = ("0", "1", "2", "3"),
    labels: Mapping[str, str] | None = None,
    label_source: str = "table",
    conditions: Mapping[str, str] | None = None,
    extra: Sequence[str] = (),
    delimiter: str | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    captions: bool = True,
    levels: int = 2,
    thresholds: Sequence[float] | None = None,
    released_classes: bool = False,
    copy: bool = False,
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float = 0.1,
    parquet_above: int = 100_000,
) -> Importer:
    """Build the importer of tiles.

    Args:
        source: A table of tiles; a folder with one table; or a folder with one ``.hdf5`` file,
            ``train.npz`` and ``test.npz``, as PathLDM's loader has them (extra ``histology``).
        images: Folder that tiles' paths are relative to; null: the table's.
        columns: The table's column for ``id`` (without one: the file's name), ``group`` (else a
            column ``slide`` or ``patient``; one is needed), ``he`` (the tile; else ``file``),
            ``split``, ``label``, ``report`` (a summary's text) or ``report_file``.
        classes: Legal labels of the column ``label``.
        labels: Class by what the table writes.
        label_source: Recorded with each label of the table.
        conditions: Columns kept as conditions by our name; ``prob_tumor`` and ``prob_til`` are kept
            by themselves.
        extra: Columns kept in the manifest: numbers and codes.
        delimiter: Of a CSV file; null: found out.
        sheet: Of a workbook; null: the only one.
        encoding: Of tables and texts that are not UTF-8.
        captions: Texts begin with the levels of the probabilities that are known.
        levels: Of tumour and of lymphocytes in captions and classes: 2, 3 or 4.
        thresholds: Least probability of each level but the lowest; null puts them evenly.
        released_classes: Classes by the rule of PathLDM's released code.
        copy: Copy tiles into the data set; the released layout always is.
        seed: Of the split by slide.
        val_share: Share of slides held out for validation; of the released layout, of its train.
        test_share: Share of slides held out for testing, where nothing says which.
        parquet_above: More tiles than these become ``manifest.parquet``.

    Raises:
        UserError: An argument is not allowed, or h5py is needed and not installed.
    """
    from voxella.data.drafts import DatasetWriter
    from voxella_importers.captions import CaptionRule
    from voxella_importers.table.settings import TableSettings
    from voxella_importers.tile_cases import IMAGE
    from voxella_importers.tiles.released_importer import ReleasedImporter, released_files
    from voxella_importers.tiles.table_importer import TileTableImporter, table_of

    source = Path(source)
    steps = None if thresholds is None else tuple(float(step) for step in thresholds)
    rule = CaptionRule.of(levels, steps, released=released_classes)
    dataset_writer = DatasetWriter(
        copy=copy,
        seed=seed,
        val_share=val_share,
        test_share=test_share,
        parquet_above=parquet_above,
    )
    if (files := released_files(source) if source.is_dir() else None) is not None:
        if problems := [*rule.problems(), *dataset_writer.problems()]:
            raise UserError("\n".join(f"importer tiles: {problem}" for problem in problems))
        if find_spec("h5py") is None:
            raise UserError(
                f"importer tiles reads {files[0].name} through h5py, which is not installed",
                remedy="pip install 'voxella[histology]'",
            )
        return ReleasedImporter(*files, rule, captions=captions, dataset_writer=dataset_writer)
    settings = TableSettings.of(
        source=table_of(source),
        images=images,
        columns=columns,
        sequences=(IMAGE,),
        classes=classes,
        labels=labels,
        label_source=label_source,
        conditions=conditions,
        extra=extra,
        delimiter=delimiter,
        sheet=sheet,
        encoding=encoding,
    )
    return TileTableImporter(settings, rule, captions=captions, dataset_writer=dataset_writer)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return tiles if name == "tiles" else None
