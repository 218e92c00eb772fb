"""The command that imports, and the recipe that it proposes for what has come."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from voxella.cli.loading import print_loading
from voxella.pipeline.stages import STAGES

__all__ = ["register_import"]


def register_import(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add the command ``import``."""
    about = next(stage.about for stage in STAGES if stage.name == "import")
    parser = subparsers.add_parser("import", help=about, description=about)
    parser.add_argument(
        "name",
        help="phantom, dicom, picai, prostate158, ccella, table, tiles, wsi; see `voxella plugins`",
    )
    parser.add_argument("source", nargs="?", help="what it reads; the phantom needs none")
    parser.add_argument("--out", required=True, metavar="DATASET", help="the data set folder")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the importer, repeatable",
    )
    parser.set_defaults(func=_import)


def _import(arguments: argparse.Namespace) -> int:
    print_loading("import", "numpy")
    from voxella.cli.fitting import fitting_recipe
    from voxella.data.importing import import_dataset, importer_component
    from voxella.progress import print_line

    component = importer_component(arguments.name, arguments.source, arguments.set)
    manifest = import_dataset(component, Path(arguments.out))
    print_line(f"{len(manifest)} cases in {manifest.folder}")
    folder, recipe = shlex.quote(arguments.out), shlex.join(fitting_recipe(manifest))
    print_line(f"next: voxella check {folder} --recipe {recipe}")
    print_line(f"then: voxella run {recipe} --dataset {folder}")
    return 0
