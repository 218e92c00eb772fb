"""Exporters ``nnunet``, ``dicom`` and ``croissant``. Light to import: nothing is read yet."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.plugins.contracts import Exported, Exporter
from voxella.plugins.specs import hookimpl
from voxella.wording import why_no_code

__all__ = ["croissant", "dicom", "nnunet", "voxella_factory"]


def nnunet(
    *,
    sequences: Sequence[str] = (),
    mask: str | None = None,
    labels: Mapping[str, int | Sequence[int]] | None = None,
    incomplete: Literal["refuse", "leave_out"] = "refuse",
    tolerance_mm: float = 0.5,
    dataset_name: str = "voxella",
    prepared: Path | None = None,
) -> Exporter:
    """Build the exporter of a raw data set of nnU-Net, version 2.

    Args:
        sequences: The channels, in order; none: every image that is no mask.
        mask: Name of the image that is the segmentation; None: the only mask there is.
        labels: Values of the mask by name, ``{gland: 1, lesion: [2, 3]}``; None: all that occur.
        incomplete: ``refuse`` cases that nnU-Net could not read, or ``leave_out`` and list them.
        tolerance_mm: How far voxels of two images may lie apart that count as one grid.
        dataset_name: Name of the data set in ``dataset.json``.
        prepared: Folder of the same cases on one grid: their images are taken.

    Raises:
        UserError: A name that would be written may be free text, or ``incomplete`` is neither.
    """
    if labels is not None and not (isinstance(labels, Mapping) and labels):
        raise UserError("nnunet: labels is no mapping", expected="{gland: 1, lesion: [2, 3]}")
    for name in (dataset_name, *(labels or {})):
        _require_code(name)
    if incomplete not in ("refuse", "leave_out"):
        raise UserError("nnunet: incomplete is neither", expected="refuse, leave_out")
    if isinstance(tolerance_mm, bool) or not isinstance(tolerance_mm, int | float):
        raise UserError("nnunet: tolerance_mm is no number")
    channels = _names(sequences)

    def export(dataset: Manifest, out: Path) -> Exported:
        from voxella_exporters.nnunet.exporter import NnunetExport, export_nnunet

        settings = NnunetExport(channels, mask, labels, incomplete, tolerance_mm, dataset_name)
        there = None if prepared is None else Manifest.read(prepared)
        return export_nnunet(dataset, out, settings, prepared=there)

    return export


def dicom(*, sequences: Sequence[str] = (), prepared: Path | None = None) -> Exporter:
    """Build the exporter of derived MR series.

    Args:
        sequences: Which images; none: every image that is no mask.
        prepared: Folder of the same cases on one grid: their images are taken.

    Raises:
        UserError: A name is no word.
    """
    chosen = _names(sequences)

    def export(dataset: Manifest, out: Path) -> Exported:
        from voxella_exporters.dicom.exporter import export_dicom

        there = None if prepared is None else Manifest.read(prepared)
        return export_dicom(dataset, out, chosen, prepared=there)

    return export


def croissant(
    *,
    sequences: Sequence[str] = (),
    with_text: bool = False,
    dataset_name: str = "voxella",
    description: str | None = None,
    licence: str | None = None,
    url: str | None = None,
    version: str | None = None,
    date: str | None = None,
    creator: str | None = None,
    citation: str | None = None,
    prepared: Path | None = None,
) -> Exporter:
    """Build the exporter of a data set with its description as Croissant JSON-LD.

    Args:
        sequences: Which images; none: all.
        with_text: Write the texts into the table of cases.
        dataset_name: Name of the data set.
        description: A few sentences; None: counts of cases by split and label.
        licence: Under which the data set is handed on, a URL or an SPDX name.
        url: Where it is published.
        version: Such as 1.0.0.
        date: Of its publication, YYYY-MM-DD.
        creator: The organisation that made it.
        citation: How it is cited.
        prepared: Folder of the same cases on one grid: their images are taken.

    Raises:
        UserError: The name may be free text, or the date is none.
    """
    _require_code(dataset_name)
    chosen, day = _names(sequences), _date(date)

    def export(dataset: Manifest, out: Path) -> Exported:
        from voxella_exporters.croissant.exporter import export_croissant
        from voxella_exporters.croissant.metadata import About

        about = About(
            dataset_name,
            description=_word(description),
            licence=_word(licence),
            url=_word(url),
            version=_word(version),
            date=day,
            creator=_word(creator),
            citation=_word(citation),
        )
        there = None if prepared is None else Manifest.read(prepared)
        return export_croissant(dataset, out, about, chosen, with_text=with_text, prepared=there)

    return export


def _word(given: object) -> str | None:
    """Return a value as text: YAML reads the version 1.0 as a number."""
    return None if given is None else str(given)


def _date(given: object) -> str | None:
    """Return a date that YAML reads as one, or as text."""
    if given is None:
        return None
    try:
        return datetime.date.fromisoformat(str(given)).isoformat()
    except ValueError:
        raise UserError("croissant: date is no date", expected="YYYY-MM-DD") from None


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Return names that are written as a list, or as one word."""
    names = (given,) if isinstance(given, str) else tuple(given or ())
    if not all(isinstance(name, str) for name in names):
        raise UserError("a name of an image is no word", expected="sequences=[t2w, adc]")
    return names


def _require_code(name: object) -> None:
    why = why_no_code(name) if isinstance(name, str) else "is no word"
    if why is not None:
        raise UserError(f"a name that would be written into the export {why}")


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    builders: dict[str, Callable[..., Any]] = {
        "nnunet": nnunet,
        "dicom": dicom,
        "croissant": croissant,
    }
    return builders.get(name)
