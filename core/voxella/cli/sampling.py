"""``voxella sample --model``: images from a model folder, without a run and without a recipe."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from voxella.cli.loading import print_loading

__all__ = ["add_model_options", "sample_model"]

# Options that ask a model folder, and those that are of a run alone.
_OF_A_MODEL = ("report", "prompts", "label", "count", "seed")
_OF_A_RUN = ("dataset", "workspace", "quarantine", "stop_after", "workers", "profile")
_EXPECTED = (
    "voxella sample RECIPE --out RUN;  "
    'voxella sample --model FOLDER --report "..." --count 2 --seed 0 --out OUT'
)
# As Generator.generate calls what it makes: the name decides the noise.
_NAME = "generated"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what a model folder is asked with."""
    parser.add_argument("--model", metavar="FOLDER", help="a model folder, in place of a recipe")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--report", metavar="TEXT", help="with --model: a report; kept nowhere")
    asked.add_argument("--prompts", metavar="FILE", help="with --model: JSON lines, one a prompt")
    parser.add_argument("--label", metavar="CLASS", help="with --model: one of its classes")
    parser.add_argument(
        "--count", type=int, metavar="N", help="with --model: images of each prompt"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="with --model: of the noise")


def sample_model(arguments: argparse.Namespace) -> int | None:
    """Sample from a model folder; None where the options name a recipe.

    Raises:
        UserError: The options do not go together, or the folder is not one of a whole model.
    """
    from voxella.errors import UserError

    given = [name for name in _OF_A_MODEL if getattr(arguments, name) is not None]
    if arguments.model is None:
        if given or arguments.recipe is None:
            told = ", ".join(f"--{name}" for name in given)
            problem = f"{told} without --model" if given else "no recipe and no model was given"
            raise UserError(f"voxella sample: {problem}", expected=_EXPECTED)
        return None
    wrong = [f"--{name.replace('_', '-')}" for name in _OF_A_RUN if getattr(arguments, name)]
    wrong += ["a recipe"] if arguments.recipe is not None else []
    if wrong:
        raise UserError(
            f"voxella sample --model takes no {', '.join(wrong)}: a model folder has its recipe",
            expected=_EXPECTED,
            remedy="--set KEY=VALUE changes a setting",
        )
    if arguments.out is None:
        raise UserError("voxella sample --model: no --out FOLDER", expected=_EXPECTED)
    if arguments.prompts is not None and arguments.label is not None:
        raise UserError("--label beside --prompts: each line of the file has its own label")
    return _sample(arguments)


def _sample(arguments: argparse.Namespace) -> int:
    print_loading("sample")
    from voxella.ldm.model_folder.facts import load_facts
    from voxella.pipeline.run import summarise
    from voxella.recipe.load import load_recipe
    from voxella.sampling.stage import sample
    from voxella.workspace.folders import Folders
    from voxella.workspace.lock import holding

    model, out = Path(arguments.model).absolute(), Path(arguments.out)
    load_facts(model)  # says what is missing
    with tempfile.TemporaryDirectory(prefix="voxella-prompts-") as own:
        prompts = _prompts(arguments, Path(own))
        overrides = ["workspace=null", "data.dataset=null", "sample.sweep=null"]
        overrides += ["sample.space=prepared", "sample.count=null", *arguments.set]
        asked = {
            "prompts": str(prompts),
            "per_case": 1 if arguments.count is None else arguments.count,
        }
        asked |= {"xlsx": True} if arguments.xlsx else {}
        overrides += [f"sample.{key}={json.dumps(value)}" for key, value in asked.items()]
        overrides += [] if arguments.seed is None else [f"seed={arguments.seed}"]
        recipe = load_recipe(model / "recipe.yaml", (), overrides)
        with holding(out):
            sample(recipe, out, model)
    summarise(Folders.of(out, None, None), "sample")
    return 0


def _prompts(arguments: argparse.Namespace, own: Path) -> Path:
    """Return the file of prompts: the one given, or one with the single report."""
    if arguments.prompts is not None:
        return Path(arguments.prompts).absolute()
    prompt: dict[str, Any] = {"id": _NAME, "report": arguments.report or ""}
    if arguments.label is not None:
        prompt["label"] = arguments.label
    path = own / "prompt.jsonl"
    path.write_text(json.dumps(prompt) + "\n", encoding="utf-8")
    return path
