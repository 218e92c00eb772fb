"""``voxella report``: one page about a run or a study, that can be mailed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from voxella.cli.loading import print_loading

__all__ = ["register", "write_page"]

_CASES = 8


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``report`` to the command line."""
    about = "write one self-contained page about a run or a study"
    parser = subparsers.add_parser("report", help=about, description=about)
    parser.add_argument("folder", metavar="RUN|STUDY", help="a run folder, or a study's")
    parser.add_argument("--out", metavar="FILE", help="the page; default RUN/report.html")
    parser.add_argument(
        "--cases",
        type=int,
        default=_CASES,
        metavar="N",
        help=f"volumes to show at most; default {_CASES}",
    )
    parser.add_argument(
        "--with-reports",
        action="store_true",
        help="put the text of the shown cases' reports into the page; never done otherwise",
    )
    parser.add_argument(
        "--viewer",
        action="store_true",
        help="put whole volumes into the page, and the viewer of `voxella view` to turn them; "
        "browsers without WebGL show the slices",
    )
    parser.set_defaults(func=_report)


def _report(arguments: argparse.Namespace) -> int:
    print_loading("report")
    out = None if arguments.out is None else Path(arguments.out)
    write_page(
        Path(arguments.folder),
        out,
        arguments.cases,
        with_reports=arguments.with_reports,
        viewer=arguments.viewer,
    )
    return 0


def write_page(
    folder: Path,
    out: Path | None = None,
    cases: int = _CASES,
    *,
    with_reports: bool = False,
    viewer: bool = False,
) -> None:
    """Write the page about a run or a study and say where it is."""
    from voxella.progress import print_line
    from voxella.report.write import write_report

    page = write_report(folder, out, cases=cases, with_reports=with_reports, viewer=viewer)
    holds = "report text and pictures" if with_reports else "pictures"
    print_line(f"page: {page}, {page.stat().st_size / 1e6:.1f} MB (it holds {holds} of patients)")
