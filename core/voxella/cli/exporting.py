"""``voxella export``: a data set in the form that other code reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from voxella.cli.loading import print_loading

__all__ = ["register"]

# Flags that are arguments of the exporter: the option, and what it is called there.
_OF_THE_EXPORTER = {
    "prepared": "prepared",
    "with_text": "with_text",
    "features": "features",
    "copy": "copy",
    "classes": "classes",
    "name": "dataset_name",
}


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``export`` to the command line."""
    about = "write a data set in the form that other code reads"
    parser = subparsers.add_parser("export", help=about, description=about)
    parser.add_argument(
        "format", metavar="FORMAT", help="ccella, nnunet, dicom, croissant; see `voxella plugins`"
    )
    parser.add_argument("dataset", help="a data set folder")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    parser.add_argument(
        "--prepared",
        metavar="DIR",
        type=Path,
        help="take the images of RUN/prepared, which share one grid",
    )
    parser.add_argument(
        "--with-text",
        action="store_const",
        const=True,
        help="write the reports themselves into the lists",
    )
    parser.add_argument(
        "--features", metavar="DIR", type=Path, help="write the token features of RUN/text as well"
    )
    parser.add_argument(
        "--copy", action="store_const", const=True, help="copy images instead of linking them"
    )
    parser.add_argument(
        "--classes", nargs=2, metavar=("NEGATIVE", "POSITIVE"), help="the two classes' names"
    )
    parser.add_argument("--name", help="dataset of cases that do not say it")
    parser.add_argument(
        "--set",
        dest="arguments",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="another argument of the exporter (YAML), repeatable",
    )
    parser.set_defaults(func=_export)


def _export(arguments: argparse.Namespace) -> int:
    print_loading("export", "numpy")
    from voxella.case import Manifest
    from voxella.cli.plugins import plugin_arguments
    from voxella.data.gate import require_gate
    from voxella.plugins import registry
    from voxella.plugins.component import Component
    from voxella.plugins.contracts import Exported, Exporter
    from voxella.progress import print_line
    from voxella.workspace.lock import holding

    given = {
        name: value
        for option, name in _OF_THE_EXPORTER.items()
        if (value := getattr(arguments, option)) is not None
    }
    settings = {**plugin_arguments(arguments.arguments), **given}
    export: Exporter = registry.build("exporters", Component(name=arguments.format, **settings))
    dataset, out = Manifest.read(Path(arguments.dataset)), Path(arguments.out)
    require_gate(dataset.folder)
    with holding(out):
        written: Exported = export(dataset, out)
    names = [*(path.name for path in written.files), *(f"{path.name}/" for path in written.folders)]
    print_line(f"written under {out}: {', '.join(names)}")
    for remark in written.remarks:
        print_line(remark)
    return 0
