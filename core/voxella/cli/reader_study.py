"""``voxella reader-study``: people tell real volumes from synthetic ones, blinded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.cli.loading import print_loading
from voxella.cli.view import add_serving_options, serving_of

if TYPE_CHECKING:
    from voxella.readers.study import ReaderStudy

__all__ = ["register"]


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``reader-study`` to the command line."""
    about = "have people tell synthetic volumes from real ones, blinded, and score their quality"
    parser = subparsers.add_parser("reader-study", help=about, description=about)
    parser.add_argument(
        "dataset", metavar="DATASET", help="synthetic cases: RUN/samples, or RUN; or a data set"
    )
    parser.add_argument(
        "--real",
        metavar="DIR",
        help="real cases on the same grid; default the prepared cases of the run",
    )
    parser.add_argument(
        "--split",
        action="append",
        choices=("train", "val", "test"),
        help="of the real cases, repeatable; default val and test",
    )
    parser.add_argument("--readers", type=int, metavar="N", help="people who read; default 2")
    parser.add_argument(
        "--cases", type=int, metavar="N", help="volumes, half of them real; default 40"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of all draws; default 0")
    parser.add_argument("--sequence", metavar="NAME", help="which image; default the first")
    parser.add_argument(
        "--out", metavar="DIR", help="the study's folder; default DATASET/reader-study"
    )
    parser.add_argument(
        "--results", action="store_true", help="print and write the numbers so far, serve nothing"
    )
    add_serving_options(parser)
    parser.set_defaults(func=_study)


def _study(arguments: argparse.Namespace) -> int:
    print_loading("reader-study")
    serving = None if arguments.results else serving_of(arguments)
    from voxella.view.reader_study import StudySources, open_study
    from voxella.workspace.lock import holding

    sources = StudySources.of(
        Path(arguments.dataset),
        None if arguments.real is None else Path(arguments.real),
        tuple(arguments.split or ()),
        None if arguments.out is None else Path(arguments.out),
    )
    asked = {
        name: value
        for name in ("readers", "cases", "seed", "sequence")
        if (value := getattr(arguments, name)) is not None
    }
    with holding(sources.out):
        study = open_study(sources, asked, make=serving is not None)
        if serving is None:
            return _print_results(study)
        from voxella.view.readers import readers_section
        from voxella.view.server import serve

        serve([readers_section(study)], serving, shown=sources.name)
    return 0


def _print_results(study: ReaderStudy) -> int:
    from voxella.progress import print_line
    from voxella.readers.answers import read_answers
    from voxella.readers.results import results_lines, study_results, write_results

    for line in results_lines(study_results(study, read_answers(study))):
        print_line(line)
    print_line(f"numbers: {write_results(study)}")
    return 0
