"""Commands that run stages: one per verb, and ``run`` for all of them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.cli.recipe import add_layers

if TYPE_CHECKING:
    from voxella.recipe.model import Recipe

__all__ = ["register"]

# verb -> what `voxella VERB --help` says
_VERBS = {
    "prepare": "crop, normalise and resample the cases to the recipe's grid",
    "train-autoencoder": "train the recipe's autoencoder on the prepared cases",
    "encode": "cache latents and text features",
    "train": "train the diffusion model and export it, doing missing stages first",
    "sample": "generate volumes with the exported model",
    "run": "every stage in order: import, prepare, train-autoencoder, encode, train, sample",
}


def _resolve(arguments: argparse.Namespace) -> tuple[Recipe, Path]:
    """Return the recipe and the run folder that the options name."""
    from voxella.recipe.load import load_recipe

    overrides = list(arguments.set)
    for option in ("dataset", "workspace"):
        if (value := getattr(arguments, option)) is not None:
            key = "data.dataset" if option == "dataset" else option
            # Quoted: a path may hold what YAML takes for a comment or a mapping.
            overrides.append(f"{key}={json.dumps(str(Path(value).absolute()))}")
    recipe = load_recipe(arguments.recipe, arguments.profile, overrides)
    name = "-".join([recipe.name, *(Path(profile).stem for profile in arguments.profile)])
    return recipe, Path(arguments.out or Path("runs") / name)


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add the stage commands to the command line."""
    for verb, about in _VERBS.items():
        parser = subparsers.add_parser(verb, help=about, description=about)
        parser.add_argument("recipe", help="path of a recipe, for example recipes/ccella.yaml")
        add_layers(parser)
        parser.add_argument("--out", metavar="RUN", help="run folder; default runs/RECIPE-PROFILE")
        parser.add_argument("--dataset", metavar="DIR", help="a data set folder: data.dataset")
        parser.add_argument("--workspace", metavar="DIR", help="share caches between runs")
        parser.add_argument(
            "--workers", type=int, default=0, help="processes that prepare cases; 0: all cores"
        )
        parser.add_argument(
            "--stop-after", type=int, metavar="STEP", help="stop training here, with a checkpoint"
        )
        parser.set_defaults(func=_stage, verb=verb)
    _register_import(subparsers)


def _stage(arguments: argparse.Namespace) -> int:
    recipe, run = _resolve(arguments)
    from voxella.stages.run import run_stages

    until = "sample" if arguments.verb == "run" else arguments.verb
    folders = run_stages(
        recipe, run, until=until, stop_after=arguments.stop_after, workers=arguments.workers
    )
    from voxella.stages.summary import summarise

    summarise(folders, until)
    return 0


def _register_import(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    about = "bring data into a data set folder with a manifest"
    parser = subparsers.add_parser("import", help=about, description=about)
    parser.add_argument("name", help="an importer: phantom, picai, table; see `voxella plugins`")
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
    from voxella.progress import say
    from voxella.recipe.importer import importer_component
    from voxella.stages.importing import import_dataset

    component = importer_component(arguments.name, arguments.source, arguments.set)
    manifest = import_dataset(component, Path(arguments.out))
    say(f"{len(manifest)} cases in {manifest.folder}")
    say(f"next: voxella run recipes/ccella.yaml --dataset {arguments.out}")
    return 0
