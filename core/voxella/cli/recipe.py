"""``voxella recipe``: show, validate, schema, diff.

What a verb works with is imported when it runs: the parser is built for every command.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.errors import UserError

if TYPE_CHECKING:
    # The class is generic for type checkers only.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_layers", "register"]


def register(subparsers: Subparsers) -> None:
    """Add ``recipe`` and its verbs; each sets ``func``, which returns the exit code."""
    parser = subparsers.add_parser("recipe", help="show, validate and compare recipes")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    show = verbs.add_parser("show", help="print a recipe with everything resolved")
    show.add_argument("recipe", metavar="RECIPE")
    add_layers(show)
    show.set_defaults(func=_show)

    validate = verbs.add_parser("validate", help="check recipes to the last argument")
    validate.add_argument("recipes", metavar="RECIPE", nargs="+")
    add_layers(validate)
    validate.set_defaults(func=_validate)

    schema = verbs.add_parser("schema", help="print the JSON Schema of a recipe file, for editors")
    schema.add_argument("--out", type=Path, metavar="FILE", help="write it there instead")
    schema.set_defaults(func=_schema)

    diff = verbs.add_parser("diff", help="list the keys in which two recipes differ")
    diff.add_argument("a", metavar="A")
    diff.add_argument("b", metavar="B")
    add_layers(diff, help_suffix=" (of both)")
    add_layers(diff, "_a", help_suffix=" (of A only)")
    add_layers(diff, "_b", help_suffix=" (of B only)")
    diff.set_defaults(func=_diff)


def add_layers(parser: argparse.ArgumentParser, suffix: str = "", help_suffix: str = "") -> None:
    """Add the repeatable options ``--profile`` and ``--set``.

    Args:
        parser: Where to add them; they arrive as ``profile`` and ``set``, lists of str.
        suffix: Added to both names (``_a`` gives ``--profile-a`` and ``profile_a``).
        help_suffix: Added to both help lines.
    """
    option = suffix.replace("_", "-")
    parser.add_argument(
        f"--profile{option}",
        action="append",
        default=[],
        metavar="NAME|PATH",
        help=f"overlay, applied in order; repeatable{help_suffix}",
    )
    parser.add_argument(
        f"--set{option}",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        help=f"one value, applied last; repeatable{help_suffix}",
    )


def _show(arguments: argparse.Namespace) -> int:
    from rich.syntax import Syntax

    from voxella.recipe.load import dump_recipe, load_recipe
    from voxella.terminal import make_console

    text = dump_recipe(load_recipe(arguments.recipe, arguments.profile, arguments.set))
    console = make_console()
    if console.is_terminal:
        console.print(Syntax(text, "yaml", background_color="default"))
    else:
        sys.stdout.write(text)  # unwrapped: what is piped to a file must load again
    return 0


def _validate(arguments: argparse.Namespace) -> int:
    from rich.text import Text

    from voxella.recipe.load import load_recipe
    from voxella.recipe.start import check_init
    from voxella.terminal import make_console
    from voxella.wording import shown_path

    console = make_console()
    failures: list[UserError] = []
    for path in arguments.recipes:
        try:
            recipe = load_recipe(path, arguments.profile, arguments.set)
            if recipe.init is not None:
                check_init(recipe.init)
        except UserError as error:
            failures.append(error)
            console.print(Text.assemble(("wrong", "red"), f"  {shown_path(path)}"), soft_wrap=True)
        else:
            console.print(
                Text.assemble(("ok", "green"), f"     {path}  {recipe.name}"), soft_wrap=True
            )
    if failures:
        remedies = dict.fromkeys(error.remedy for error in failures if error.remedy is not None)
        raise UserError(
            "\n".join(_without_remedy(error) for error in failures),
            remedy="; ".join(remedies) or None,
        )
    return 0


def _without_remedy(error: UserError) -> str:
    return str(UserError(error.problem, expected=error.expected))


def _schema(arguments: argparse.Namespace) -> int:
    from voxella.files import write_text_atomic
    from voxella.recipe.schema import recipe_schema
    from voxella.terminal import print_line

    text = json.dumps(recipe_schema(), indent=2) + "\n"
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        write_text_atomic(arguments.out, text)
        print_line(f"wrote {arguments.out}")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from rich.text import Text

    from voxella.recipe.diff import difference
    from voxella.recipe.load import load_recipe
    from voxella.terminal import make_console

    left, right = (
        load_recipe(
            path,
            [*arguments.profile, *getattr(arguments, f"profile_{side}")],
            [*arguments.set, *getattr(arguments, f"set_{side}")],
        )
        for side, path in (("a", arguments.a), ("b", arguments.b))
    )
    console = make_console()
    changes = difference(left, right)
    for change in changes:
        line = Text.assemble(
            f"{change.key}: ", (_value(change.left), "red"), " -> ", (_value(change.right), "green")
        )
        console.print(line, soft_wrap=True)
    if not changes:
        console.print("no difference")
    return 0


def _value(value: Any) -> str:  # noqa: ANN401 - any JSON value, or ABSENT
    from voxella.recipe.diff import ABSENT

    return repr(ABSENT) if value is ABSENT else json.dumps(value, ensure_ascii=False)
