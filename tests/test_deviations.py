"""Every deviation from the paper that names a setting names one that exists and gives theirs."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from tiny_run import REPOSITORY

from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe

RECIPES = REPOSITORY / "recipes"
TEXT = (REPOSITORY / "docs" / "explanation" / "deviations.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("|")
][2:]
NAMED = [(row[0], row[4]) for row in ROWS if row[4] != "none"]
# The paper's own recipes have these already.
_AS_THE_PAPER = ("evaluate.fid_singular", "classify.slice_interpolation")


def at(recipe: Recipe, key: str) -> Any:
    found: Any = recipe
    for part in key.split("."):
        if isinstance(found, dict):
            found = found.get(part)
        elif part in type(found).model_fields:
            found = getattr(found, part)
        else:
            found = found.arguments.get(part)
    return found


def test_every_row_has_a_reason_and_a_setting_or_none() -> None:
    assert len(ROWS) > 25
    assert len({row[0] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert len(row) == 5, row
        assert all(row), row
    assert len(NAMED) >= 15


@pytest.mark.parametrize(("what", "setting"), NAMED)
def test_the_setting_exists_and_gives_theirs(what: str, setting: str) -> None:
    (found,) = re.findall(r"^`([a-z_0-9.]+): (.+?)`( †)?$", setting)
    key, written, apart = found
    name = "downstream/real.yaml" if key.startswith("classify.") else "ccella.yaml"
    ours = load_recipe(RECIPES / name)
    theirs = load_recipe(RECIPES / name, [], [f"{key}={written}"])
    wanted = yaml.safe_load(written)
    assert at(theirs, key) == wanted
    assert (at(ours, key) == wanted) is (key in _AS_THE_PAPER)
    if not apart:
        assert at(load_recipe(RECIPES / "ccella-released.yaml"), key) == wanted


def test_the_released_recipe_sets_nothing_that_is_not_listed() -> None:
    ours = load_recipe(RECIPES / "ccella.yaml").model_dump()
    released = load_recipe(RECIPES / "ccella-released.yaml").model_dump()

    def differing(a: Any, b: Any, key: str = "") -> set[str]:
        if isinstance(a, dict) and isinstance(b, dict):
            return {
                k for part in {*a, *b} for k in differing(a.get(part), b.get(part), f"{key}.{part}")
            }
        return set() if a == b else {key.strip(".").replace(".arguments.", ".")}

    listed = {setting.strip("`").partition(":")[0] for _, setting in NAMED}
    assert differing(ours, released) - {"name", "description"} <= listed
