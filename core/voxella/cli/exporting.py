"""``voxella export``: a data set in the form that other code reads."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

__all__ = ["register"]


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``export`` to the command line."""
    about = "write a data set in the form that other code reads"
    parser = subparsers.add_parser("export", help=about, description=about)
    formats = parser.add_subparsers(metavar="FORMAT", required=True)
    about = "the JSON lists, spreadsheet and images of the released CCELLA code"
    ccella = formats.add_parser("ccella", help=about, description=about)
    ccella.add_argument("dataset", help="a data set folder")
    ccella.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    ccella.add_argument(
        "--prepared", metavar="DIR", help="take the images of RUN/prepared, which share one grid"
    )
    ccella.add_argument(
        "--with-text", action="store_true", help="write the reports themselves into the lists"
    )
    ccella.add_argument(
        "--features", metavar="DIR", help="write the token features of RUN/text as well"
    )
    ccella.add_argument("--copy", action="store_true", help="copy images instead of linking them")
    ccella.add_argument(
        "--classes",
        nargs=2,
        default=["negative", "positive"],
        metavar=("NEGATIVE", "POSITIVE"),
        help="the two classes' names",
    )
    ccella.add_argument("--name", default="voxella", help="dataset of cases that do not say it")
    ccella.set_defaults(func=_export_ccella)


def _export_ccella(arguments: argparse.Namespace) -> int:
    from voxella.case import Manifest
    from voxella.errors import UserError
    from voxella.gate import require_gate
    from voxella.importers.ccella_export import SHEET, CcellaExport, export_ccella
    from voxella.progress import say
    from voxella.quoting import why_no_code
    from voxella.workspace.lock import holding

    for name in (arguments.name, *arguments.classes):
        if (why := why_no_code(name)) is not None:
            raise UserError(f"--name and --classes go into the lists; one of them {why}")
    dataset, out = Manifest.read(Path(arguments.dataset)), Path(arguments.out)
    require_gate(dataset.folder)
    settings = CcellaExport(
        with_text=arguments.with_text,
        copy=arguments.copy,
        classes=arguments.classes,
        name=arguments.name,
    )
    with holding(out):
        written = export_ccella(
            dataset,
            out,
            settings,
            prepared=None
            if arguments.prepared is None
            else Manifest.read(Path(arguments.prepared)),
            text_cache=None if arguments.features is None else Path(arguments.features),
        )
    say(f"written under {out}: {', '.join(path.name for path in written)}, images/")
    reports = sum(case.report is not None for case in dataset)
    if reports and not arguments.with_text:
        say(f"{reports} reports are left out; --with-text writes them into the lists")
    back = shlex.join(["voxella", "import", "ccella", str(out), "--set", f"labels={out / SHEET}"])
    say(f"back again: {back} --out DATASET")
    return 0
