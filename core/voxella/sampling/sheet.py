"""A spreadsheet of the cases beside a synthetic data set, unless the gate holds it back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from voxella.case import Manifest
from voxella.data.gate import require_gate
from voxella.errors import UserError
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.progress import print_line
from voxella.recipe.inputs import Data

__all__ = ["drop_sheet", "keep_sheet", "require_sheets"]

_SHEET = "cases.xlsx"
# The exporter that knows the columns.
_EXPORTER = "ccella_sheet"


def keep_sheet(data: Data, out: Path, *, asked: bool, anew: bool) -> None:
    """Write the spreadsheet where ``sample.xlsx`` asks for it; else see that none is there.

    A data set that was judged and may not be handed on gets none, with a warning and no more:
    inside a run it is the evaluation, after this stage, that judges volumes made since.

    Args:
        data: Names the classes.
        out: The data set; its manifest is there.
        asked: ``sample.xlsx``.
        anew: Also where there is one already.
    """
    sheet = out / _SHEET
    if not asked:
        sheet.unlink(missing_ok=True)
        return
    try:
        require_gate(out)
    except UserError as refusal:
        sheet.unlink(missing_ok=True)
        print_line(f"warning: no {_SHEET}: {refusal.problem}")
        return
    if anew or not sheet.is_file():
        labelled = [case for case in Manifest.read(out) if case.label is not None]
        positive = data.positive_class or data.classes[-1]
        settings = {"file": _SHEET, "positive": positive}
        registry.build("exporters", Component(name=_EXPORTER, **settings))(
            Manifest(out, labelled), out
        )


def drop_sheet(out: Path) -> None:
    """Remove the spreadsheet of a data set whose volumes are made anew."""
    (out / _SHEET).unlink(missing_ok=True)


def require_sheets(data_sets: Iterable[Path]) -> None:
    """Refuse what :func:`keep_sheet` has refused, for the command that asks for spreadsheets.

    Raises:
        UserError: A data set was judged and may not be handed on.
    """
    for folder in data_sets:
        require_gate(folder)
