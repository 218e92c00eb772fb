"""``voxella report``: one page about a run or a study, that can be mailed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from voxella.cli.loading import print_loading

__all__ = ["register"]


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``report`` to the command line."""
    about = "write one self-contained page about a run or a study"
    parser = subparsers.add_parser("report", help=about, description=about)
    parser.add_argument("folder", metavar="RUN|STUDY", help="a run folder, or a study's")
    parser.add_argument("--out", metavar="FILE", help="the page; default RUN/report.html")
    parser.add_argument(
        "--cases", type=int, default=8, metavar="N", help="volumes to show at most; default 8"
    )
    parser.add_argument(
        "--with-reports",
        action="store_true",
        help="put the text of the shown cases' reports into the page; never done otherwise",
    )
    parser.set_defaults(func=_report)


def _report(arguments: argparse.Namespace) -> int:
    print_loading("report")
    from voxella.progress import print_line
    from voxella.report.write import write_report

    page = write_report(
        Path(arguments.folder),
        None if arguments.out is None else Path(arguments.out),
        cases=arguments.cases,
        with_reports=arguments.with_reports,
    )
    holds = "report text and pictures" if arguments.with_reports else "pictures"
    print_line(f"page: {page}, {page.stat().st_size / 1e6:.1f} MB (it holds {holds} of patients)")
    return 0
