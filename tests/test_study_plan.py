"""A study's file, and the plan that is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import REPOSITORY

from voxella.errors import UserError
from voxella.study.load import load_studies
from voxella.study.plan import Plan, make_plan
from voxella.study.recipes import Layers

STUDIES = REPOSITORY / "recipes" / "studies"
RECIPES = REPOSITORY / "recipes"
NINE = ["base", "radbase", "ellabase", "decoupled", "l1only", "ccella", "shared", "first", "last"]
FIVE = [
    *("real", "synth_clinical", "synth_predicted"),
    *("real_synth_clinical", "real_synth_predicted"),
]
SMOKE = Layers(profiles=("smoke",))


def written(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def planned(path: Path, out: Path, layers: Layers = SMOKE) -> Plan:
    return make_plan(load_studies(path), out, layers)


def study_of(*recipes: Path, more: str = "") -> str:
    lines = "\n".join(f"  - {path}" for path in recipes)
    return f"name: mine\nrecipes:\n{lines}\ncolumns: [kid_3d]\n{more}"


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("table1", ["base", "radbase", "ellabase", "decoupled", "l1only", "ccella"]),
        ("table2", ["shared", "first", "last", "ccella"]),
        ("table3", FIVE),
    ],
)
def test_a_table_has_the_papers_rows(name: str, rows: list[str], tmp_path: Path) -> None:
    plan = planned(STUDIES / f"{name}.yaml", tmp_path)
    assert [list(table.rows) for table in plan.tables] == [rows]
    assert all(step.recipe.paper is not None for step in plan.steps if step.name in rows)
    assert {step.recipe.seed for step in plan.steps} == {0}
    assert {step.recipe.workspace for step in plan.steps} == {tmp_path / "workspace"}
    assert not list(tmp_path.iterdir())


def test_all_runs_each_recipe_once_and_classifiers_last(tmp_path: Path) -> None:
    plan = planned(STUDIES / "all.yaml", tmp_path)
    assert [table.study.name for table in plan.tables] == ["table1", "table2", "table3"]
    assert [step.name for step in plan.steps] == [*NINE, *FIVE]
    assert {step.until for step in plan.steps[:9]} == {"evaluate"}
    assert {step.until for step in plan.steps[9:]} == {"classify"}


def test_classifiers_learn_from_the_volumes_that_the_study_names(tmp_path: Path) -> None:
    plan = planned(STUDIES / "table3.yaml", tmp_path)
    assert (plan.steps[0].name, plan.steps[0].until) == ("ccella", "sample")
    learning = {step.name: step.recipe.classify for step in plan.steps[1:]}
    samples = {name: block.samples for name, block in learning.items() if block is not None}
    assert samples == dict.fromkeys(FIVE[1:], tmp_path / "ccella" / "samples") | {"real": None}
    # The profile's 1 volume of a run, and the 2 that its classifiers ask for.
    assert {step.recipe.sample.count for step in plan.steps} == {2}


def test_an_override_is_for_the_recipes_that_have_its_block(tmp_path: Path) -> None:
    layers = Layers(("smoke",), ("text.max_tokens=32", "train.steps=3", "sample.count=1"))
    plan = planned(STUDIES / "table1.yaml", tmp_path, layers)
    assert plan.step("base").recipe.text is None
    text = plan.step("ccella").recipe.text
    assert text is not None
    assert text.max_tokens == 32
    assert {step.recipe.train.steps for step in plan.steps} == {3}
    with pytest.raises(UserError, match="no recipe of the study has a classify block"):
        planned(STUDIES / "table1.yaml", tmp_path, Layers(("smoke",), ("classify.seeds=2",)))


def test_recipes_that_differ_in_more_than_the_experiment_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(f"extends: {RECIPES / 'radbase.yaml'}\nname: other\nseed: 7\n")
    path = written(tmp_path, study_of(RECIPES / "base.yaml", other))
    with pytest.raises(UserError, match="other and base differ in seed"):
        planned(path, tmp_path / "out")
    reader = tmp_path / "reader.yaml"
    reader.write_text(
        f"extends: {RECIPES / 'ccella.yaml'}\nname: reader\ntext: {{truncation: left}}\n"
    )
    path = written(tmp_path, study_of(RECIPES / "base.yaml", RECIPES / "ccella.yaml", reader))
    with pytest.raises(UserError, match="reader and ccella differ in text"):
        planned(path, tmp_path / "out")


def test_volumes_that_nobody_looks_at_are_not_made(tmp_path: Path) -> None:
    plan = planned(STUDIES / "all.yaml", tmp_path)
    splits = {
        step.name: step.recipe.sample.splits for step in plan.steps if step.until != "classify"
    }
    assert splits.pop("ccella") == ("test", "train")
    assert set(splits.values()) == {("test",)}
    alone = planned(STUDIES / "table3.yaml", tmp_path)
    assert alone.step("ccella").recipe.sample.splits == ("train",)
    asked = Layers((), ("evaluate.real_split=val", "sample.split=[val, train]"))
    assert planned(STUDIES / "table1.yaml", tmp_path, asked).step("base").recipe.sample.splits == (
        "val",
    )


def test_what_a_study_cannot_be_made_of(tmp_path: Path) -> None:
    base, real = RECIPES / "base.yaml", RECIPES / "downstream" / "synth_clinical.yaml"
    claim = "claims:\n  - {text: t, metric: kid_3d, left: base, side: below, right: nobody}\n"
    with pytest.raises(UserError, match="names nobody"):
        planned(written(tmp_path, study_of(base, more=claim)), tmp_path)
    with pytest.raises(UserError, match="the study names no samples_from"):
        planned(written(tmp_path, study_of(real)), tmp_path)
    with pytest.raises(UserError, match=r"absent\.yaml"):
        planned(written(tmp_path, study_of(base, RECIPES / "absent.yaml")), tmp_path)
    twin = tmp_path / "twin.yaml"
    twin.write_text(f"extends: {base}\n")
    with pytest.raises(UserError, match="these are taken: base"):
        planned(written(tmp_path, study_of(base, twin)), tmp_path)
    swept = Layers(("smoke",), ("sample.sweep={steps: [1, 2]}",))
    with pytest.raises(UserError, match=r"sample\.sweep"):
        planned(written(tmp_path, study_of(base)), tmp_path, swept)


def test_every_mistake_of_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "name: mine\n"
        "recipe: [a.yaml]\n"
        "columns: [fid_3D, kid_3d, kid_3d]\n"
        "claims:\n"
        "  - text: better\n"
        "    metric: kid_3d\n"
        "    left: a\n"
        "    side: under\n"
        "    rigth: b\n",
    )
    with pytest.raises(UserError) as raised:
        load_studies(path)
    said = str(raised.value)
    assert "study.yaml:2: recipe: unknown key; did you mean recipes?" in said
    assert "study.yaml:3: columns.0: there is no metric fid_3D; did you mean fid_3d?" in said
    assert "recipes: missing" in said
    assert "study.yaml:8: claims.0.side: received 'under'" in said
    assert "study.yaml:9: claims.0.rigth: unknown key; did you mean right?" in said
    assert "claims.0.right: missing" in said
    with pytest.raises(UserError, match="a study is a mapping of keys, received list"):
        load_studies(written(tmp_path, "- a\n"))
