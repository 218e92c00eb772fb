"""``voxella plan``: what a recipe costs, which settings fit, and a profile of them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.cli.loading import print_loading
from voxella.cli.recipe import add_layers
from voxella.errors import UserError

if TYPE_CHECKING:
    from voxella.forecast.cards import Card, Cards

__all__ = ["register"]


def register(subparsers: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add ``plan`` to the command line."""
    about = "what a recipe costs on a card, and settings that fit; nothing is run"
    parser = subparsers.add_parser("plan", help=about, description=about)
    parser.add_argument("recipe", metavar="RECIPE")
    add_layers(parser)
    parser.add_argument("--dataset", metavar="DIR", help="propose grid and token limit from it")
    parser.add_argument("--gpus", type=_count, default=1, metavar="N", help="that train it")
    parser.add_argument("--card", metavar="NAME", help="such as A100; default: this machine's")
    parser.add_argument("--memory", type=float, metavar="GB", help="of one card, in GiB")
    parser.add_argument("--cards", type=Path, metavar="FILE", help="a table of cards of your own")
    parser.add_argument("--cases", type=_count, metavar="N", help="training cases to estimate for")
    parser.add_argument(
        "--bench", metavar="DIR", default="bench/results", help="measured speeds of cards"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write them as a profile")
    parser.set_defaults(func=_plan)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected: a whole number, at least 1")
    return number


def _plan(arguments: argparse.Namespace) -> int:
    print_loading("plan")
    from voxella.forecast.cards import read_cards
    from voxella.forecast.plan_table import assumptions_of, described, show_plan
    from voxella.forecast.planning import Machine, plan_recipe
    from voxella.forecast.profile import profile_of, write_profile
    from voxella.forecast.proposal import propose_from_data
    from voxella.progress import print_line
    from voxella.recipe.load import load_recipe
    from voxella.recipe.yaml_lines import dump_yaml
    from voxella.study.plan import Plan, Step

    if arguments.write is not None and arguments.write.suffix not in (".yaml", ".yml"):
        raise UserError("--write names no profile", expected="a file that ends in .yaml")
    cards = read_cards(arguments.cards)
    machine = Machine(_card(arguments, cards), arguments.gpus, cards, Path(arguments.bench))
    recipe = load_recipe(arguments.recipe, arguments.profile, _overrides(arguments))
    data: dict[str, Any] = {}
    if arguments.dataset is not None:
        data = propose_from_data(
            recipe.data, recipe.prepare, recipe.latent, recipe.backbone, recipe.text
        )
        print_line("from the data set's fingerprint:\n" + dump_yaml(data).rstrip())
        recipe = load_recipe(
            arguments.recipe, arguments.profile, [*_flat(data), *_overrides(arguments)]
        )
    folder, source = Path("runs") / recipe.name, Path(arguments.recipe)
    steps = [Step(recipe.name, recipe, source, folder, "sample")]
    if recipe.classify is not None:
        steps.append(replace(steps[0], folder=folder / "classify", until="classify"))
    study = Plan(recipe.name, folder, tuple(steps), ())
    made = plan_recipe(study, machine, cases=arguments.cases, say=print_line)
    show_plan(made)
    if arguments.write is not None:
        head = [
            f"Written by voxella plan for {machine.told}.",
            f"{described(made.chosen)}.",
            *assumptions_of(made),
            "",
            f"  voxella run {arguments.recipe} --profile {arguments.write}",
        ]
        path = write_profile(arguments.write, profile_of(made, data), head)
        # It has to be a profile of this recipe.
        load_recipe(arguments.recipe, [*arguments.profile, str(path)], _overrides(arguments))
        print_line(f"wrote {path}: voxella run {arguments.recipe} --profile {path}")
    return 0


def _card(arguments: argparse.Namespace, cards: Cards) -> Card:
    """Return the card to plan for, of the memory that is asked for."""
    from voxella.forecast.devices import this_or_usual

    card = cards.require(arguments.card or this_or_usual())
    if arguments.memory is None:
        return card
    if not arguments.memory > 0:
        raise UserError(f"--memory {arguments.memory:g}", expected="GiB of one card, above 0")
    return replace(card, memory_gib=arguments.memory)


def _overrides(arguments: argparse.Namespace) -> list[str]:
    own = (
        [] if arguments.dataset is None else [f"data.dataset={Path(arguments.dataset).absolute()}"]
    )
    return [*own, *arguments.set]


def _flat(keys: dict[str, Any]) -> list[str]:
    return [f"{block}.{key}={value}" for block, own in keys.items() for key, value in own.items()]
