"""voxella recipe show, validate, schema, diff, as its parser runs them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from voxella.cli.recipe import register
from voxella.errors import UserError
from voxella.recipe.load import load_recipe
from voxella.recipe.schema import recipe_schema

RECIPES = Path(__file__).parents[1] / "recipes"
BASE, CCELLA = str(RECIPES / "base.yaml"), str(RECIPES / "ccella.yaml")


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["recipe", *arguments])
    code: int = parsed.func(parsed)
    return code


def test_show_prints_a_recipe_that_loads_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", CCELLA, "--profile", "smoke", "--set", "seed=5") == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(capsys.readouterr().out)
    assert load_recipe(shown) == load_recipe(CCELLA, ["smoke"], ["seed=5"])


def test_validate_names_every_good_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", BASE, CCELLA, "--profile", "demo") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["ok", BASE, "base"], ["ok", CCELLA, "ccella"]]


def test_validate_reports_every_bad_recipe_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"extends: {BASE}\nsede: 3\n")
    two.write_text(f"extends: {BASE}\ntrain: {{epohcs: 3}}\n")
    with pytest.raises(UserError) as caught:
        run("validate", str(one), BASE, str(two))
    message = str(caught.value)
    assert f"{one}:2: sede: unknown key; did you mean seed?" in message
    assert f"{two}:2: train.epohcs: unknown key; did you mean train.epochs?" in message
    assert message.count("next:") == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "wrong",
        "ok",
        "wrong",
    ]


def test_schema_is_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out) == recipe_schema()
    assert run("schema", "--out", str(tmp_path / "s.json")) == 0
    assert json.loads((tmp_path / "s.json").read_text()) == recipe_schema()


def test_diff_lists_changed_keys_of_two_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("diff", str(RECIPES / "ccella.yaml"), str(RECIPES / "ccella-rflow.yaml")) == 0
    assert capsys.readouterr().out.splitlines() == [
        'name: "ccella" -> "ccella-rflow"',
        'description: "CCELLA, text and class from the report" -> "CCELLA as a rectified flow"',
        'diffusion.schedule: "scaled_linear" -> "rectified_flow"',
        'diffusion.prediction: "epsilon" -> "flow"',
        'sample.sampler: "ddpm" -> "euler"',
        "sample.steps: 1000 -> 30",
    ]


def test_diff_takes_layers_for_both_and_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("diff", BASE, BASE, "--profile", "smoke", "--set-b", "seed=4") == 0
    assert capsys.readouterr().out == "seed: 0 -> 4\n"
    assert run("diff", BASE, BASE, "--profile-a", "gpu24", "--profile-b", "gpu24") == 0
    assert capsys.readouterr().out == "no difference\n"
    assert run("diff", BASE, BASE, "--profile-b", "gpu24", "--set-a", "train.compile=true") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "train.compile: true -> false" in lines
    assert 'deepspeed.zero_optimization.offload_optimizer.device: absent -> "cpu"' in lines


def test_diff_shows_a_block_that_only_one_side_has_by_its_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("diff", BASE, CCELLA) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "text.width: absent -> 4096" in lines
    assert not any(line.startswith("text:") for line in lines)
