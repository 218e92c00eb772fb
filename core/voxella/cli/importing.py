"""The command that imports, and the recipe that it proposes for what has come."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.cli.loading import print_loading
from voxella.pipeline.stages import STAGES

if TYPE_CHECKING:
    from voxella.case import Manifest

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


def _fitting(manifest: Manifest) -> str:
    """Return a recipe, with its profile, that asks for no more than the cases have."""
    from voxella.imaging.headers import is_raster

    cases = manifest.split("train")  # they alone decide whether a recipe refuses
    if any(is_raster(Path(path)) for case in cases for path in case.images.values()):
        return "recipes/tiles/base.yaml"
    labels = any(case.label is not None for case in cases)
    reports = any(case.texts for case in cases)
    without, with_reports = ("radbase", "ccella") if labels else ("base", "ellabase")
    return f"recipes/{with_reports if reports else without}.yaml --profile two-cores"


def _import(arguments: argparse.Namespace) -> int:
    print_loading("import", "numpy")
    from voxella.data.importing import import_dataset, importer_component
    from voxella.progress import print_line

    component = importer_component(arguments.name, arguments.source, arguments.set)
    manifest = import_dataset(component, Path(arguments.out))
    print_line(f"{len(manifest)} cases in {manifest.folder}")
    print_line(f"next: voxella check {arguments.out}")
    print_line(f"then: voxella run {_fitting(manifest)} --dataset {arguments.out}")
    return 0
