"""Commands that run stages: one per verb, and ``run`` for all of them."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.cli.importing import register_import
from voxella.cli.loading import print_loading
from voxella.cli.paper_mode import paper_mode
from voxella.cli.recipe import add_layers
from voxella.cli.sampling import add_model_options, sample_model
from voxella.pipeline.stages import RUN, STAGES

if TYPE_CHECKING:
    from voxella.recipe.model import Recipe

__all__ = ["register"]

# verb -> what `voxella VERB --help` says; `import` takes no recipe and is a command of its own
_VERBS = {stage.name: stage.about for stage in STAGES if stage.name != "import"} | {"run": RUN}
_OUT = "run folder; default runs/RECIPE-PROFILE, with a data set runs/RECIPE-PROFILE-DATASET"


def _resolve(arguments: argparse.Namespace) -> tuple[Recipe, Path]:
    """Return the recipe and the run folder that the options name."""
    from voxella.recipe.load import load_recipe

    overrides = list(arguments.set)
    for option in ("dataset", "workspace"):
        if (value := getattr(arguments, option)) is not None:
            key = "data.dataset" if option == "dataset" else option
            # Quoted: a path may hold what YAML takes for a comment or a mapping.
            overrides.append(f"{key}={json.dumps(str(Path(value).absolute()))}")
    if arguments.verb == "check-autoencoder":
        # The verb shows the numbers before it refuses; inside a run the stage does as it is told.
        overrides.append("autoencoder_check.on_failure=warn")
        if arguments.cases is not None:
            overrides.append(f"autoencoder_check.cases={arguments.cases}")
    if arguments.verb == "sample" and arguments.xlsx:
        overrides.append("sample.xlsx=true")
    if arguments.verb == "evaluate" and arguments.gate is not None:
        overrides.append(f"evaluate.gate={arguments.gate}")
    if arguments.verb == "classify" and arguments.seeds is not None:
        overrides.append(f"classify.seeds={arguments.seeds}")
    recipe = load_recipe(arguments.recipe, arguments.profile, overrides)
    if arguments.verb == "encode" and arguments.paper_mode:
        # First, so that --set wins here as everywhere.
        overrides = [*paper_mode(recipe.text, recipe.name), *overrides]
        recipe = load_recipe(arguments.recipe, arguments.profile, overrides)
    out = arguments.out or _default_run(recipe.name, recipe.data.dataset, arguments.profile)
    return recipe, Path(out)


def _default_run(name: str, dataset: Path | None, profiles: list[str]) -> Path:
    """Return ``runs/RECIPE-PROFILE``, and ``-DATASET`` where one is given: runs of its own."""
    words = [name, *(Path(profile).stem for profile in profiles)]
    if dataset is not None:
        words.append(Path(os.path.abspath(dataset)).name)
    return Path("runs") / "-".join(word for word in words if word)


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add the stage commands to the command line."""
    for verb, about in _VERBS.items():
        parser = subparsers.add_parser(verb, help=about, description=about)
        parser.add_argument(
            "recipe",
            # Comparing takes none, and neither does a model folder.
            nargs="?" if verb in ("classify", "sample") else None,
            help="path of a recipe, for example "
            + ("recipes/downstream/real.yaml" if verb == "classify" else "recipes/ccella.yaml"),
        )
        add_layers(parser)
        parser.add_argument("--out", metavar="RUN", help=_OUT)
        parser.add_argument("--dataset", metavar="DIR", help="a data set folder: data.dataset")
        parser.add_argument("--workspace", metavar="DIR", help="share caches between runs")
        parser.add_argument(
            "--workers", type=int, default=0, help="processes that prepare cases; 0: all cores"
        )
        parser.add_argument(
            "--quarantine", action="store_true", help="leave out cases that cannot be prepared"
        )
        parser.add_argument(
            "--stop-after", type=int, metavar="STEP", help="stop training here, with a checkpoint"
        )
        if verb == "check-autoencoder":
            parser.add_argument(
                "--cases", type=int, metavar="N", help="measure on N: autoencoder_check.cases"
            )
        if verb == "sample":
            parser.add_argument(
                "--xlsx",
                action="store_true",
                help="write the released code's spreadsheet as well: sample.xlsx",
            )
            add_model_options(parser)
        if verb == "evaluate":
            parser.add_argument(
                "--samples",
                metavar="DIR",
                help="a data set folder, or several, in place of the run's",
            )
            parser.add_argument(
                "--gate", metavar="SHARE", help="hold back more copies than that: evaluate.gate"
            )
        if verb == "classify":
            parser.add_argument(
                "--seeds", metavar="K", help="trainings that differ in the seed: classify.seeds"
            )
            parser.add_argument(
                "--compare",
                nargs=2,
                metavar=("A", "B"),
                help="two folders RUN/classify/NAME: paired tests of AUC and accuracy",
            )
        if verb == "encode":
            parser.add_argument(
                "--paper-mode",
                action="store_true",
                help="text features as released: padded to 512 tokens, cut at the left, float32",
            )
        parser.set_defaults(func=_stage, verb=verb)
    register_import(subparsers)


def _stage(arguments: argparse.Namespace) -> int:
    if arguments.verb == "classify" and (arguments.compare or arguments.recipe is None):
        return _compare(arguments)
    if arguments.verb == "sample" and (done := sample_model(arguments)) is not None:
        return done
    recipe, run = _resolve(arguments)
    print_loading(arguments.verb)
    from voxella.pipeline.run import run_stages

    last = "evaluate" if recipe.classify is None else "classify"
    until = last if arguments.verb == "run" else arguments.verb
    if arguments.verb == "evaluate" and arguments.samples is not None:
        from voxella.check.synthetic_sets import check_samples

        # Of another's volumes nothing is made here: the real cases are all that is needed.
        sequences, samples = recipe.data.sequences, Path(arguments.samples)
        crop = recipe.latent.crop
        check_samples(sequences, recipe.prepare, samples, on_grid=True, crop=crop)
        until = "prepare"
    # Later verbs keep what `prepare --quarantine` decided; `prepare` without it tries all again.
    keep = None if arguments.verb != "prepare" else False
    folders = run_stages(
        recipe,
        run,
        until=until,
        stop_after=arguments.stop_after,
        workers=arguments.workers,
        quarantine=arguments.quarantine or keep,
    )
    if arguments.verb == "evaluate" and arguments.samples is not None:
        from voxella.evaluation.stage import evaluate
        from voxella.workspace.lock import holding

        with holding(folders.run, folders.work):
            evaluate(recipe, run, Path(arguments.samples))
        until = "evaluate"
    from voxella.pipeline.run import summarise

    summarise(folders, until if arguments.stop_after is None else "train")
    if until == "check-autoencoder":
        _show_check(folders.autoencoder)
    if arguments.verb == "run" and arguments.stop_after is None:
        _page(folders.run)
    if until == "sample" and recipe.sample.xlsx:
        from voxella.sampling.sheet import require_sheets
        from voxella.sampling.stage import variants

        require_sheets([out for _, out in variants(recipe, folders.samples)])
    return 0


def _page(run: Path) -> None:
    """Write the page of a run that has ended, unless nothing was done since it was written."""
    from voxella.cli.report import write_page
    from voxella.progress import print_line
    from voxella.ranks import Ranks

    if not Ranks.from_environment().is_main:
        return
    page = run / "report.html"
    records = [*run.glob("*/stage.json"), *run.glob("*/*/stage.json")]
    if page.is_file() and all(page.stat().st_mtime > path.stat().st_mtime for path in records):
        print_line(f"page: {page}")
    else:
        write_page(run)


def _compare(arguments: argparse.Namespace) -> int:
    from voxella.errors import UserError
    from voxella.progress import print_line

    if not arguments.compare or arguments.recipe is not None:
        raise UserError(
            "voxella classify takes a recipe, or --compare with two folders",
            expected="voxella classify recipes/downstream/real.yaml --out RUN;  "
            "voxella classify --compare RUN/classify/real RUN/classify/synth_clinical",
        )
    from voxella.classification.compare import compare_scenarios

    first, second = (Path(folder) for folder in arguments.compare)
    path = compare_scenarios(first, second, arguments.out and Path(arguments.out))
    print_line(f"comparison: {path}")
    return 0


def _show_check(folder: Path) -> None:
    from voxella.autoencoder.check import require_trusted
    from voxella.autoencoder.table import show_check
    from voxella.ranks import Ranks

    if Ranks.from_environment().is_main:
        show_check(folder)
    require_trusted(folder)
