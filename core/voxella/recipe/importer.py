"""An importer's block from the words of a command line, held to its builder like a recipe's."""

from __future__ import annotations

import json
from collections.abc import Sequence

from voxella.plugins.component import Component
from voxella.recipe.bind import bind
from voxella.recipe.overrides import apply, parse_overrides
from voxella.recipe.problems import impossible_numbers, raise_problems
from voxella.recipe.yaml_lines import Node

__all__ = ["importer_component"]

_SLOT = ("data", "importer")


def importer_component(name: str, source: str | None, settings: Sequence[str]) -> Component:
    """Return the block of ``voxella import NAME SOURCE --set KEY=VALUE ...``.

    Args:
        name: The importer's name.
        source: Its ``source`` argument, relative to the current directory; None: not given.
        settings: Further arguments, ``KEY=VALUE``.

    Raises:
        UserError: The importer is unknown, or an argument does not fit it; lists every problem.
    """
    given = [f"name={json.dumps(name)}"]
    if source is not None:
        given.append(f"source={json.dumps(source)}")
    words = [f"{'.'.join(_SLOT)}.{word}" for word in (*given, *settings)]
    overrides = parse_overrides(words)
    tree = apply(Node({}, overrides[0].value.mark), overrides)
    raise_problems(impossible_numbers(tree), f"voxella import {name}")
    bound = bind(tree)
    raise_problems(bound.problems, f"voxella import {name}")
    return Component(name=name, **bound.arguments[_SLOT])
