"""``voxella study``: the recipes of a table, one after the other, and the table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.cli.loading import print_loading
from voxella.cli.recipe import add_layers

if TYPE_CHECKING:
    from voxella.study.plan import Plan

__all__ = ["register"]

_FAILED = 2


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``study``; it sets ``func``, which returns 2 where a recipe failed."""
    about = "run the recipes of a table on the same data and judge the claims about them"
    parser = subparsers.add_parser("study", help=about, description=about)
    parser.add_argument("study", metavar="STUDY", help="such as recipes/studies/table1.yaml")
    add_layers(parser, help_suffix=" (of every recipe)")
    parser.add_argument("--out", metavar="DIR", help="default runs/study-NAME-PROFILE")
    parser.add_argument("--dataset", metavar="DIR", help="a data set folder, for every recipe")
    parser.add_argument("--workspace", metavar="DIR", help="shared caches; default OUT/workspace")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this recipe; repeatable"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that prepare cases; 0: all cores"
    )
    parser.add_argument(
        "--quarantine", action="store_true", help="leave out cases that cannot be prepared"
    )
    parser.add_argument(
        "--seeds", type=int, metavar="K", help="trainings of each recipe; default the study's own"
    )
    parser.add_argument(
        "--each-seed", action="store_true", help="show every training under its recipe's row"
    )
    parser.add_argument(
        "--table-only", action="store_true", help="run nothing: the table of what there is"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="the plan with its cost; nothing is run or written"
    )
    parser.add_argument(
        "--cases", type=int, metavar="N", help="of a dry run: training cases to estimate for"
    )
    parser.add_argument(
        "--device", metavar="NAME", help="of a dry run: the GPU to estimate for, such as A100"
    )
    parser.add_argument(
        "--cards", type=Path, metavar="FILE", help="of a dry run: a table of cards of your own"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="of a dry run: GPUs on one model",
    )
    parser.add_argument(
        "--bench", metavar="DIR", default="bench/results", help="of a dry run: measured speeds"
    )
    parser.set_defaults(func=_study)


def _study(arguments: argparse.Namespace) -> int:
    # First: dozens of recipes take a second or two to read.
    print_loading("study")
    plan = _plan(arguments)
    if arguments.dry_run:
        return _dry_run(plan, arguments)
    from voxella.ranks import Ranks
    from voxella.study.stage import run_study, write_study
    from voxella.terminal import print_line

    ranks = Ranks.from_environment()
    failures: dict[str, str] = {}
    if arguments.table_only:
        write_study(plan, failures, ranks, each_seed=arguments.each_seed)
    else:
        failures = run_study(
            plan,
            only=tuple(arguments.only),
            workers=arguments.workers,
            quarantine=arguments.quarantine or None,
            each_seed=arguments.each_seed,
        )
    if ranks.is_main:
        print_line((plan.folder / "table.md").read_text(encoding="utf-8"))
    return _FAILED if failures else 0


def _dry_run(plan: Plan, arguments: argparse.Namespace) -> int:
    from voxella.forecast.cards import read_cards
    from voxella.forecast.devices import find_speed
    from voxella.forecast.forecast import forecast
    from voxella.forecast.table import show_forecast
    from voxella.progress import print_line
    from voxella.ranks import Ranks
    from voxella.study.stage import problems_of

    cards = read_cards(arguments.cards)
    speed = find_speed(arguments.device, Path(arguments.bench), cards)
    found = forecast(plan, speed, cases=arguments.cases, processes=arguments.processes)
    show_forecast(plan, found)
    same: dict[str, list[str]] = {}
    for name, why in problems_of(plan.steps, Ranks.from_environment()).items():
        same.setdefault(why, []).append(name)
    for why, names in same.items():
        print_line(f"could not run as things are: {', '.join(names)}: {why}")
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    from voxella.study.load import load_studies
    from voxella.study.plan import make_plan
    from voxella.study.recipes import Layers

    studies = load_studies(arguments.study)
    if arguments.seeds is not None:
        studies = studies.with_seeds(arguments.seeds)
    layers = Layers(
        tuple(arguments.profile),
        tuple(arguments.set),
        None if arguments.dataset is None else Path(arguments.dataset),
        None if arguments.workspace is None else Path(arguments.workspace),
    )
    name = "-".join(["study", studies.name, *(Path(p).stem for p in arguments.profile)])
    return make_plan(studies, Path(arguments.out or Path("runs") / name), layers)
