"""Importer ``dicom``: folders of MR studies, as they come from a PACS.

::

    voxella import dicom FOLDER --out DATASET --set 'rules={t2w: {description: t2_tse_tra}}'

Files may lie in any folders: they are sorted by what their headers say. The data set is
de-identified by construction: an image file holds voxels and geometry, a case the fields that
``keep`` and ``conditions`` list, and patients and studies are keyed hashes. Pixels are read by
SimpleITK, headers by pydicom. Light to import: neither is loaded before the importer is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from voxella.plugins.contracts import Importer
from voxella.plugins.specs import hookimpl
from voxella_importers.dicom.settings import KeyedBy, SeriesRule

__all__ = ["dicom", "voxella_factory"]


def dicom(
    *,
    source: Path,
    sequences: Sequence[str] | None = None,
    rules: Mapping[str, SeriesRule] | None = None,
    keep: Sequence[str] = (),
    conditions: Mapping[str, str] | None = None,
    key_file: Path | None = None,
    keyed_by: KeyedBy = "accession",
    reports: Path | None = None,
    reports_map: Path | None = None,
    labels: Path | None = None,
    columns: Mapping[str, str] | None = None,
    label_names: Mapping[str, str] | None = None,
    label_source: str = "table",
    classes: Sequence[str] = ("negative", "positive"),
    skip_bad: bool = False,
    show_paths: bool = False,
    encoding: str | None = None,
    visible_only: bool = False,
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float = 0.1,
) -> Importer:
    """Build the DICOM importer.

    Args:
        source: Folder with DICOM files at any depth.
        sequences: What each case is to have; None: the sequences of ``rules``, or else t2w. Rules
            for t2w, sag, cor (T2-weighted, by plane), adc and hbv (highest b-value) are built in.
        rules: Rule by sequence, before the built-in ones.
        keep: DICOM keywords to keep in the manifest, from the first sequence's first file: numbers,
            codes, ages and the scanner's type, such as MagneticFieldStrength, Manufacturer,
            PatientAge. Names, dates, identifiers and free text are refused.
        conditions: What a model may be told, by our name, and the keyword that it comes from:
            ``{age: PatientAge, sex: PatientSex, field: MagneticFieldStrength}``. The same
            keywords as in ``keep``; an age is in years, above 89 it is 90; what a header lacks is
            not known. Nothing is taken that is not asked for.
        key_file: The key of an earlier import, for the same hashes again. None: ``.voxella-key`` in
            the folder that holds the data set, made once, mode 0600.
        keyed_by: What the tables below identify a study by: its AccessionNumber, its
            StudyInstanceUID, or its PatientID (which has to have one study then).
        reports: Folder of ``<identifier>.txt``; or what ``reports_map`` is relative to.
        reports_map: JSON object ``{identifier: file}``, or a table with columns ``id``, ``report``.
        labels: Table with the columns ``id`` and ``label``.
        columns: Its columns where they are not called so: ``{id: YOURS, label: YOURS}``.
        label_names: Class by what the table writes, such as ``{"0": negative}``.
        label_source: Recorded with each label.
        classes: Allowed labels; the recipe's ``data.classes``.
        skip_bad: Leave bad studies and unreadable files out instead of refusing.
        show_paths: Tell where bad studies and files lie. Paths often hold patients' names.
        encoding: Of tables and reports that are not UTF-8 and have no byte-order mark, such as
            ``windows-1251``; None: there are none.
        visible_only: Leave out rows that are hidden or filtered out in a workbook.
        seed: Of the split by patient.
        val_share: Share of patients held out for validation.
        test_share: Share of patients held out for testing.
    """
    from voxella.data.drafts import DatasetWriter
    from voxella_importers.dicom.importer import DicomImporter
    from voxella_importers.dicom.settings import DicomSettings

    settings = DicomSettings(
        source=Path(source),
        sequences=None if sequences is None else tuple(sequences),
        given_rules={n: SeriesRule.model_validate(rule) for n, rule in (rules or {}).items()},
        keep=tuple(keep),
        conditions=dict(conditions or {}),
        key_file=None if key_file is None else Path(key_file),
        keyed_by=keyed_by,
        reports=None if reports is None else Path(reports),
        reports_map=None if reports_map is None else Path(reports_map),
        labels=None if labels is None else Path(labels),
        columns=dict(columns or {}),
        label_names={str(key): value for key, value in (label_names or {}).items()},
        label_source=label_source,
        classes=tuple(classes),
        skip_bad=skip_bad,
        show_paths=show_paths,
        encoding=encoding,
        visible_only=visible_only,
    )
    dataset_writer = DatasetWriter(
        copy=False, seed=seed, val_share=val_share, test_share=test_share
    )
    return DicomImporter(settings, dataset_writer)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return dicom if name == "dicom" else None
