"""A report written: of a run or of a study, whichever the folder is."""

from __future__ import annotations

from pathlib import Path

from voxella.errors import UserError
from voxella.files import write_text_atomic
from voxella.report.page import run_page
from voxella.report.run_folder import RECIPE, RunFolder
from voxella.report.study_page import TABLE, study_page
from voxella.workspace.lock import holding

__all__ = ["PAGE", "write_report"]

PAGE = "report.html"


def write_report(
    folder: Path,
    out: Path | None = None,
    *,
    cases: int = 8,
    with_reports: bool = False,
    viewer: bool = False,
) -> Path:
    """Write the page about a run or a study, and return its file.

    Args:
        folder: A run folder, or a study's.
        out: The page; None: ``FOLDER/report.html``.
        cases: Pairs of volumes to show at most, of each run.
        with_reports: Put the prompts' text into the page.
        viewer: Put whole volumes into the page, and a viewer for browsers with WebGL.

    Raises:
        UserError: The folder is neither, or a file in it cannot be read.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}", expected="a run's folder, or that of a study"
        )
    if cases < 1:
        raise UserError(f"--cases {cases}: a page shows at least one", expected="1 and more")
    target = folder / PAGE if out is None else Path(out)
    if target.is_dir():
        raise UserError(f"{target} is a folder", remedy=f"--out {target / PAGE}")
    # The page alone: to look at a run while it goes on is what pages are for.
    with holding(target.absolute().parent, name=f".{target.name}.lock"):
        page = _page(folder, cases, with_reports=with_reports, viewer=viewer)
        return write_text_atomic(target, page)


def _page(folder: Path, cases: int, *, with_reports: bool, viewer: bool) -> str:
    if (folder / TABLE).is_file() and not (folder / RECIPE).is_file():
        return study_page(folder, cases=cases, with_reports=with_reports, viewer=viewer)
    run = RunFolder.open(folder)
    return run_page(run, cases=cases, with_reports=with_reports, viewer=viewer)
