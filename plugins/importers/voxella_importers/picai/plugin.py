"""Importer ``picai``: the PI-CAI challenge's images, marksheet and official splits.

::

    voxella import picai images --out DATASET --set labels=picai_labels --set splits=splits.json

Light to import: nothing is read before the importer is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from voxella.plugins.contracts import Importer
from voxella.plugins.specs import hookimpl
from voxella_importers.picai.marksheet import LabelRule

__all__ = ["picai", "voxella_factory"]


def picai(
    *,
    source: Path,
    labels: Path | None = None,
    splits: Path | None = None,
    fold: int = 0,
    label_from: LabelRule = "pirads_then_isup",
    sequences: Sequence[str] = ("t2w",),
    classes: Sequence[str] = ("negative", "positive"),
    reports: Path | None = None,
    reports_map: Path | None = None,
    masks: Sequence[str] = (),
    mask_tolerance_mm: float = 0.5,
    skip_bad: bool = False,
    encoding: str | None = None,
    visible_only: bool = False,
    copy: bool = False,
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float = 0.1,
) -> Importer:
    """Build the PI-CAI importer.

    Args:
        source: Folder of ``<patient>/<patient>_<study>_<sequence>.mha``, its parent (``images/`` in
            it), or a folder of the five unpacked fold folders; or of nnU-Net's copy, whose
            ``<patient>_<study>_0000.nii.gz``, 0001 and 0002 are t2w, adc and hbv.
        labels: The ``picai_labels`` repository, or its ``marksheet.csv``, with or without the
            column ``lesion_PIRADS``. None: cases have no label.
        splits: The official ``splits.json``, or its folder; ``val`` of the fold becomes the split
            ``val``, and there is no test split. None: a hash of the patient decides.
        fold: Which of the folds, from 0.
        label_from: ``pirads``: the highest PI-RADS of the case's lesions, 3 and more is positive.
            ``isup``: the case's ISUP grade, 2 and more is positive. ``pirads_then_isup``, the
            paper's rule: ISUP where there is no PI-RADS. The manifest records which it was.
        sequences: Of t2w, adc, hbv, sag, cor.
        classes: Names of the negative and the positive class, in this order.
        reports: Folder of ``<patient>_<study>.txt``; or what ``reports_map`` is relative to.
        reports_map: JSON object ``{case id: file}``, or a table with columns ``id`` and ``report``.
        masks: ``gland``, ``zones`` and ``lesion``, kept as further images of a case, from the best
            folder of ``labels`` that has one on the T2W grid; or one such folder by its name:
            Bosma22b, Guerbet23, Yuan23, HeviAI23, resampled, Pooch25, Bosma22a. Their voxels: zones
            1 is peripheral, 2 transition; lesion 2 to 5 is the ISUP grade in ``resampled``, 1 is
            any in the others. The manifest records which folder it was.
        mask_tolerance_mm: How far a mask's voxels may lie from those of the T2W image.
        skip_bad: Leave out studies that lack a sequence, are Git-LFS pointers or are in no split,
            instead of refusing.
        encoding: Of tables and reports that are not UTF-8 and have no byte-order mark, such as
            ``windows-1251``; None: there are none.
        visible_only: Leave out rows that are hidden or filtered out in a workbook.
        copy: Copy the images into the data set.
        seed: Of the split by patient.
        val_share: Share of patients held out for validation, without ``splits``.
        test_share: Share of patients held out for testing, without ``splits``.
    """
    from voxella.data.drafts import DatasetWriter
    from voxella_importers.picai.reader import PicaiImporter, PicaiSettings

    settings = PicaiSettings(
        source=Path(source),
        labels=None if labels is None else Path(labels),
        splits=None if splits is None else Path(splits),
        fold=fold,
        label_from=label_from,
        sequences=tuple(sequences),
        classes=tuple(classes),
        reports=None if reports is None else Path(reports),
        reports_map=None if reports_map is None else Path(reports_map),
        masks=tuple(masks),
        mask_tolerance_mm=mask_tolerance_mm,
        skip_bad=skip_bad,
        encoding=encoding,
        visible_only=visible_only,
    )
    dataset_writer = DatasetWriter(copy=copy, seed=seed, val_share=val_share, test_share=test_share)
    return PicaiImporter(settings, dataset_writer)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return picai if name == "picai" else None
