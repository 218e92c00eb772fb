"""Exporters ``ccella`` and ``ccella_sheet``: what the released CCELLA code reads.

Light to import: nothing is read or written before an exporter is called.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.plugins.contracts import Exported, Exporter
from voxella.plugins.specs import hookimpl
from voxella.wording import why_no_code

__all__ = ["ccella", "ccella_sheet", "voxella_factory"]


def ccella(
    *,
    with_text: bool = False,
    copy: bool = False,
    classes: Sequence[str] = ("negative", "positive"),
    dataset_name: str = "voxella",
    prepared: Path | None = None,
    features: Path | None = None,
) -> Exporter:
    """Build the exporter of lists, spreadsheet and images.

    Args:
        with_text: Write the reports themselves into the lists.
        copy: Copy images instead of linking them.
        classes: Names of the negative and the positive class.
        dataset_name: ``dataset`` of cases that do not say it themselves.
        prepared: Folder of the same cases on one grid: their images are taken.
        features: Folder of token features that are written as well.

    Raises:
        UserError: A name that would go into the lists may be free text.
    """
    for name in (dataset_name, *classes):
        if (why := why_no_code(name)) is not None:
            raise UserError(f"--name and --classes go into the lists; one of them {why}")

    def export(dataset: Manifest, out: Path) -> Exported:
        from voxella_importers.ccella.export import SHEET, CcellaExport, export_ccella

        written = export_ccella(
            dataset,
            out,
            CcellaExport(with_text, copy, classes, dataset_name),
            prepared=None if prepared is None else Manifest.read(prepared),
            text_cache=features,
        )
        back = ["voxella", "import", "ccella", str(out), "--set", f"labels={out / SHEET}"]
        remarks = [f"back again: {shlex.join(back)} --out DATASET"]
        reports = sum(case.report is not None for case in dataset)
        if reports and not with_text:
            left_out = f"{reports} reports are left out; --with-text writes them into the lists"
            remarks.insert(0, left_out)
        return Exported(written, remarks, [out / "images"])

    return export


def ccella_sheet(*, file: str = "cases.xlsx", positive: str = "positive") -> Exporter:
    """Build the exporter of the spreadsheet alone.

    Args:
        file: Its name; ends in ``.xlsx``.
        positive: Name of the positive class.
    """

    def export(dataset: Manifest, out: Path) -> Exported:
        from voxella_importers.ccella.export import write_sheet

        cases = [case for case in dataset if case.label is not None]
        return Exported([write_sheet(cases, out / file, positive)])

    return export


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    builders: dict[str, Callable[..., Any]] = {"ccella": ccella, "ccella_sheet": ccella_sheet}
    return builders.get(name)
