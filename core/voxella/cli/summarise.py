"""``voxella summarise``: a data set's reports to short summaries."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from voxella.errors import UserError

__all__ = ["register"]

_NAMED = 10  # ids that are printed; all of them are in the file


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``summarise`` to the command line."""
    about = "summarise the reports of a data set, for captions; what is there already is kept"
    parser = subparsers.add_parser("summarise", help=about, description=about)
    parser.add_argument("dataset", help="a data set folder")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="where summaries.csv is written"
    )
    parser.add_argument(
        "--summariser", default="extractive", metavar="NAME", help="default: extractive, no model"
    )
    parser.add_argument(
        "--set",
        dest="arguments",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an argument of the summariser (YAML), repeatable",
    )
    parser.add_argument(
        "--allow-network",
        action="store_true",
        help="let an endpoint be another machine: reports leave this one",
    )
    parser.add_argument(
        "--variants", type=int, default=1, metavar="N", help="summaries of each report, default 1"
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="DIR", help="count tokens with this tokenizer's folder"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=154, metavar="N", help="that are read, default 154"
    )
    parser.add_argument(
        "--prefix", default="", metavar="TEXT", help="what stands before a summary in a caption"
    )
    parser.set_defaults(func=_summarise)


def _summarise(arguments: argparse.Namespace) -> int:
    from voxella.case import Manifest
    from voxella.cli.plugins import plugin_arguments
    from voxella.data.gate import require_gate
    from voxella.data.summaries import TOO_LONG, summarise_reports
    from voxella.plugins import registry
    from voxella.plugins.component import Component
    from voxella.plugins.contracts import Summariser
    from voxella.progress import print_line
    from voxella.workspace.lock import holding

    settings = plugin_arguments(arguments.arguments)
    if arguments.allow_network:
        settings["allow_network"] = True
    made: Summariser = registry.build(
        "summarisers", Component(name=arguments.summariser, **settings)
    )
    count = None if arguments.tokenizer is None else _counter(arguments.tokenizer)
    dataset, out = Manifest.read(Path(arguments.dataset)), Path(arguments.out)
    require_gate(dataset.folder)
    with holding(out):
        done = summarise_reports(
            dataset,
            made,
            out,
            variants=arguments.variants,
            count_tokens=count,
            max_tokens=arguments.max_tokens,
            prefix=arguments.prefix,
        )
    print_line(
        f"{done.table}: {done.reports} reports, {done.made} summaries made, {done.kept} kept"
        + (f"; {done.without} cases have no report" if done.without else "")
    )
    if done.too_long:
        named = ", ".join(done.too_long[:_NAMED])
        rest = len(done.too_long) - _NAMED
        print_line(
            f"{len(done.too_long)} are longer than {arguments.max_tokens} tokens and would be cut: "
            f"{named}{f' and {rest} more' if rest > 0 else ''}; all in {out / TOO_LONG}"
        )
    return 0


def _counter(folder: Path) -> Callable[[str], int]:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--tokenizer: {folder} holds no tokenizer ({type(error).__name__})",
            expected="a folder as save_pretrained writes it",
        ) from None

    def count(text: str) -> int:
        return len(tokenizer(text, truncation=False)["input_ids"])

    return count
