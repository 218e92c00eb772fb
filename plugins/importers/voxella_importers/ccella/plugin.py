"""Importer ``ccella``: the lists, the spreadsheet and the images of the released CCELLA code.

::

    voxella import ccella DATASETS --out DATASET --set images=IMAGES --set labels=SHEET.xlsx

``voxella export ccella`` is the way back. Light to import: nothing is read before the importer is
called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from voxella.plugins.contracts import Importer
from voxella.plugins.specs import hookimpl

__all__ = ["ccella", "voxella_factory"]


def ccella(
    *,
    source: Path,
    images: Path | None = None,
    labels: Path | None = None,
    sheet: str | None = None,
    sequences: Sequence[str] = ("t2w",),
    classes: Sequence[str] = ("negative", "positive"),
    resplit: bool = False,
    skip_bad: bool = False,
    encoding: str | None = None,
    visible_only: bool = False,
    copy: bool = False,
    seed: int = 0,
    val_share: float = 0.0,
    test_share: float = 0.1,
) -> Importer:
    """Build the CCELLA importer.

    Args:
        source: Folder of ``train.json`` and ``test.json`` (and ``val.json``, which the released
            code does not know), its parent, or one list alone. Of ``train_merged.json`` and its
            like, in which paths of precomputed text features stand in the place of reports, the
            paths are kept in the manifest (``extra.text_features``); encoding does not read them.
        images: What the lists' image paths are relative to; None: ``images/`` beside the lists,
            where there is one, else the lists' folder.
        labels: The spreadsheet with the columns folder, PosPIRADS, PosISUP and Label: it says
            whether a label comes from PI-RADS or from ISUP, and is held against the lists. None:
            labels are the lists' ``pirads``.
        sheet: Of a workbook with several.
        sequences: Of t2w (``axt2`` in the lists), adc (``adc``) and hbv (``b1600``).
        classes: Names of the negative and the positive class, in this order.
        resplit: Draw splits by patient instead of taking the lists'.
        skip_bad: Leave out cases whose images are absent or no images, instead of refusing.
        encoding: Of lists and spreadsheets that are not UTF-8 and have no byte-order mark, such as
            ``windows-1251``; None: there are none.
        visible_only: Leave out rows that are hidden or filtered out in a workbook.
        copy: Copy the images into the data set.
        seed: Of drawn splits.
        val_share: Share of the patients of ``train.json`` that are held out for validation; of all
            patients with ``resplit``, or where the source is one list.
        test_share: Share of patients held out for testing with ``resplit``, or where the source is
            one list.
    """
    from voxella.data.drafts import DatasetWriter
    from voxella_importers.ccella.reader import CcellaImporter
    from voxella_importers.ccella.settings import CcellaSettings

    settings = CcellaSettings(
        source=Path(source),
        images=None if images is None else Path(images),
        labels=None if labels is None else Path(labels),
        sheet=sheet,
        sequences=tuple(sequences),
        classes=tuple(classes),
        resplit=resplit,
        skip_bad=skip_bad,
        encoding=encoding,
        visible_only=visible_only,
    )
    dataset_writer = DatasetWriter(copy=copy, seed=seed, val_share=val_share, test_share=test_share)
    return CcellaImporter(settings, dataset_writer)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return ccella if name == "ccella" else None
