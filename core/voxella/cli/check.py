"""``voxella check``: everything that is wrong with a data set, as a table and as a page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from voxella.cli.loading import print_loading
from voxella.cli.recipe import add_layers

__all__ = ["register"]

_ERRORS = 2


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``check``; it sets ``func``, which returns 2 where there are errors."""
    about = "find everything that is wrong with a data set, at once"
    parser = subparsers.add_parser("check", help=about, description=about)
    parser.add_argument("dataset", metavar="DATASET", help="a folder with a manifest")
    parser.add_argument(
        "--recipe", metavar="RECIPE", help="hold it against this recipe's crop, classes and encoder"
    )
    add_layers(parser, help_suffix=" (of the recipe)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--page", metavar="FILE", help="the page; default OUT/report.html")
    parser.add_argument("--all", action="store_true", help="show every case on the page")
    parser.add_argument("--out", metavar="DIR", help="the results; default DATASET/check")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that read images; 0: all cores"
    )
    parser.set_defaults(func=_check)


def _check(arguments: argparse.Namespace) -> int:
    from voxella.errors import UserError
    from voxella.recipe.load import load_recipe

    if arguments.recipe is None and (arguments.profile or arguments.set):
        raise UserError(
            "--profile and --set change a recipe, and none is given", expected="--recipe"
        )
    if arguments.workers < 0:
        raise UserError(f"workers: {arguments.workers} is below 0 (0: all cores)")
    recipe = None
    if arguments.recipe is not None:
        recipe = load_recipe(arguments.recipe, arguments.profile, arguments.set)
    print_loading("check")
    from voxella.check.stage import check

    report = check(
        Path(arguments.dataset),
        recipe,
        out=None if arguments.out is None else Path(arguments.out),
        page=None if arguments.page is None else Path(arguments.page),
        workers=arguments.workers,
        show_all=arguments.all,
        quiet=arguments.json,
    )
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2, ensure_ascii=True))
        return _ERRORS if report.counts["error"] else 0
    from voxella.check.printing import print_findings, tally
    from voxella.progress import print_line

    print_findings(report.findings)
    for line in report.not_checked:
        print_line(f"not checked: {line}")
    print_line(tally(report.counts, len(report.manifest)))
    print_line(f"page: {report.page} (it holds pictures of patients)")
    return _ERRORS if report.counts["error"] else 0
