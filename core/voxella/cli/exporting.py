"""``voxella export``: a data set, or a model, in the form that other code reads."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.cli.loading import print_loading

if TYPE_CHECKING:
    from voxella.case import Manifest
    from voxella.plugins.contracts import Exported

__all__ = ["register"]

_LICENCES = "licences.txt"
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
    about = "write a data set, or a trained model, in the form that other code reads"
    parser = subparsers.add_parser("export", help=about, description=about)
    parser.add_argument(
        "format",
        metavar="FORMAT",
        help="of a data set: ccella, nnunet, dicom, croissant; of a model: ccella, maisi, "
        "monai-bundle, diffusers; see `voxella plugins`",
    )
    parser.add_argument("source", help="a data set folder, or a model folder (RUN/model)")
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
        "--only-marked",
        metavar="MARK",
        action="append",
        help="only cases that were marked so in `voxella view`: good, bad, artefact or copy; "
        "repeatable",
    )
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
    from voxella.workspace.folders import model_facts_path

    if model_facts_path(Path(arguments.source)).is_file():
        return _export_model(arguments)
    print_loading("export", "numpy")
    from voxella.case import Manifest
    from voxella.cli.plugins import plugin_arguments
    from voxella.data.gate import require_gate
    from voxella.plugins import registry
    from voxella.plugins.component import Component
    from voxella.plugins.contracts import Exporter
    from voxella.workspace.lock import holding

    settings = {**plugin_arguments(arguments.arguments), **_given(arguments)}
    export: Exporter = registry.build("exporters", Component(name=arguments.format, **settings))
    dataset, out = Manifest.read(Path(arguments.source)), Path(arguments.out)
    require_gate(dataset.folder)
    if arguments.only_marked:
        dataset = _marked(dataset, arguments.only_marked)
    with holding(out):
        written: Exported = export(dataset, out)
    _tell(written, out)
    return 0


def _export_model(arguments: argparse.Namespace) -> int:
    from voxella.cli.plugins import plugin_arguments
    from voxella.errors import UserError
    from voxella.plugins import registry
    from voxella.plugins.component import Component

    given = [*_given(arguments), *(["only_marked"] if arguments.only_marked else [])]
    if given:
        options = ", ".join(f"--{option.replace('_', '-')}" for option in given)
        raise UserError(
            f"{arguments.source} is a model: {options} are of data sets",
            expected="voxella export FORMAT MODEL --out FOLDER --set KEY=VALUE",
        )
    component = Component(name=arguments.format, **plugin_arguments(arguments.arguments))
    # A name that is unknown is told before seconds of loading.
    registry.builder("model_exporters", arguments.format)
    print_loading("export")
    from voxella.plugins.contracts import ModelExporter
    from voxella.workspace.lock import holding

    export: ModelExporter = registry.build("model_exporters", component)
    out = Path(arguments.out)
    with holding(out):
        written: Exported = export(Path(arguments.source), out)
        written = replace(written, files=[*written.files, *_licences(Path(arguments.source), out)])
    _tell(written, out)
    return 0


def _licences(model: Path, out: Path) -> list[Path]:
    """Write the licences of weights that came from elsewhere beside what goes out; return files."""
    from voxella.files import write_text_atomic
    from voxella.ldm.model_folder.facts import load_facts

    if not (known := load_facts(model).licences):
        return []
    lines = [f"{part}: {words}" for part, words in known.items()]
    head = "Licences of the weights that this model was made of, as they were named:"
    return [write_text_atomic(out / _LICENCES, "\n".join([head, "", *lines, ""]))]


def _marked(dataset: Manifest, marks: list[str]) -> Manifest:
    from voxella.case.marks import marked_only
    from voxella.progress import print_line

    chosen = marked_only(dataset, marks)
    print_line(f"{len(chosen)} of {len(dataset)} cases are marked {' or '.join(marks)}")
    return chosen


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of an exporter of data sets that have an option of their own."""
    return {
        name: value
        for option, name in _OF_THE_EXPORTER.items()
        if (value := getattr(arguments, option)) is not None
    }


def _tell(written: Exported, out: Path) -> None:
    from voxella.progress import print_line

    names = [str(path.relative_to(out)) for path in written.files]
    names += [f"{path.relative_to(out)}/" for path in written.folders]
    print_line(f"written under {out}: {', '.join(names)}")
    for remark in written.remarks:
        print_line(remark)
