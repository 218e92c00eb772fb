"""``voxella convert``: networks of other releases come in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from voxella.cli.loading import print_loading
from voxella.cli.recipe import add_layers
from voxella.errors import UserError

__all__ = ["register"]


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``convert`` to the command line."""
    about = "turn a released checkpoint into a model folder, or into weights that a recipe names"
    parser = subparsers.add_parser("convert", help=about, description=about)
    parser.add_argument("source", metavar="SOURCE", help="whose release: ccella; `voxella plugins`")
    parser.add_argument("file", metavar="FILE", type=Path, help="the released file, or folder")
    parser.add_argument(
        "--recipe", required=True, metavar="RECIPE", help="the recipe whose networks it fits"
    )
    add_layers(parser)
    parser.add_argument("--out", required=True, metavar="MODEL", type=Path, help="folder to write")
    parser.add_argument(
        "--licence", metavar="TEXT", help="where its licence limits uses: name it, it is kept"
    )
    parser.add_argument(
        "--null-text", metavar="FILE", type=Path, help="features of the empty report, (L, F)"
    )
    parser.add_argument(
        "--latent-scale", metavar="NUMBER", help="factor on latents, or one a channel: 0.9,1.1"
    )
    parser.add_argument(
        "--new",
        metavar="PATTERN",
        action="append",
        default=[],
        help="a classifier's tensors that are not taken over, e.g. 'fc.*'; repeatable",
    )
    parser.set_defaults(func=_convert)


def _convert(arguments: argparse.Namespace) -> int:
    scales = _numbers(arguments.latent_scale)
    print_loading("convert")
    from voxella.conversion.convert import convert
    from voxella.conversion.request import Conversion
    from voxella.progress import print_line
    from voxella.recipe.load import load_recipe
    from voxella.workspace.lock import holding

    recipe = load_recipe(arguments.recipe, arguments.profile, arguments.set)
    asked = Conversion(
        source=arguments.source,
        file=arguments.file,
        out=arguments.out,
        licence=arguments.licence,
        null_text=arguments.null_text,
        latent_scale=scales,
        new=tuple(arguments.new),
    )
    with holding(arguments.out):
        for path in convert(recipe, asked):
            print_line(f"written: {path}")
    return 0


def _numbers(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UserError(
            "--latent-scale is no number", expected="0.9, or one for each channel: 0.9,1.1"
        ) from None
