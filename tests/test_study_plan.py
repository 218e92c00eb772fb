"""A study's file, and the plan that is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import REPOSITORY

from voxella.errors import UserError
from voxella.forecast.devices import find_speed
from voxella.forecast.forecast import forecast
from voxella.recipe.load import load_recipe
from voxella.sampling.stage import variants
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


# FID of tables 1, 4 and 6 of arXiv 2309.00748, typed from the paper, in its order of rows.
PATHLDM: dict[str, dict[str, float]] = {
    "table1": {
        "pathldm-f8-class": 48.14,
        "pathldm-f4-class": 39.72,
        "pathldm-f4-class-imagenet": 29.45,
        "pathldm-clip": 10.64,
        "pathldm": 7.64,
    },
    "table4": {
        "moghadam": 105.81,
        "medfusion-class": 46.49,
        "medfusion-text": 39.56,
        "sd-finetune": 30.1,
        "pathldm-f4-class-imagenet": 29.45,
        "pathldm": 7.64,
    },
    "table6": {"pathldm": 7.64, "pathldm-random-summary": 22.16, "pathldm-five-summaries": 7.34},
}


@pytest.mark.parametrize("layers", [Layers(), SMOKE], ids=["paper", "smoke"])
@pytest.mark.parametrize("name", PATHLDM)
def test_a_table_of_pathldm_has_the_papers_rows_and_its_claims_hold_of_the_paper(
    name: str, layers: Layers, tmp_path: Path
) -> None:
    plan = planned(STUDIES / f"pathldm-{name}.yaml", tmp_path, layers)
    rows = PATHLDM[name]
    assert [list(table.rows) for table in plan.tables] == [list(rows)]
    published = {step.name: step.recipe.paper for step in plan.steps}
    assert {key: row and row.fid for key, row in published.items()} == rows
    # A claim that the paper's own numbers do not bear out would be one that it does not make.
    for claim in plan.tables[0].study.claims:
        sign = {"below": -1, "above": 1}[claim.side]
        for left in claim.lefts:
            assert all(sign * (rows[left] - rows[right]) > 0 for right in claim.rights), claim.text
    assert len({step.recipe.seed for step in plan.steps}) == 1
    assert not list(tmp_path.iterdir())


def test_what_differs_lies_in_workspaces_of_its_own(tmp_path: Path) -> None:
    plan = planned(STUDIES / "pathldm-all.yaml", tmp_path, Layers())
    places = {step.name: step.recipe.workspace for step in plan.steps}
    assert all(place is not None and place.parent == tmp_path for place in places.values())
    found = {name: place.name for name, place in places.items() if place is not None}
    f4 = "workspace-pathldm-f4-class"
    assert found == {
        "pathldm-f8-class": "workspace",
        "pathldm-f4-class": f4,
        "pathldm-f4-class-imagenet": f4,
        "pathldm-clip": f4,
        "pathldm": f4,
        "moghadam": "workspace-moghadam",
        "medfusion-class": "workspace-medfusion-class",
        "medfusion-text": "workspace-medfusion-class",
        "sd-finetune": "workspace-sd-finetune",
        "pathldm-random-summary": "workspace-pathldm-random-summary",
        "pathldm-five-summaries": "workspace-pathldm-five-summaries",
    }
    # A workspace that the user names is the first's, and the others lie beside it.
    named = planned(STUDIES / "pathldm-all.yaml", tmp_path, Layers(workspace=tmp_path / "mine"))
    assert named.step("pathldm-f8-class").recipe.workspace == tmp_path / "mine"
    assert named.step("moghadam").recipe.workspace == tmp_path / "mine-moghadam"


def test_only_what_a_study_compares_may_differ(tmp_path: Path) -> None:
    two = (RECIPES / "pathldm/f8-class.yaml", RECIPES / "pathldm/f4-class.yaml")
    differ = "autoencoder, autoencoder_training, latent"
    with pytest.raises(UserError, match=f"differ in {differ}") as raised:
        planned(written(tmp_path, study_of(*two)), tmp_path / "out", Layers())
    assert raised.value.remedy is not None
    assert "varies: [autoencoder, latent]" in raised.value.remedy
    some = "varies: [autoencoder, latent]\n"
    with pytest.raises(UserError, match="differ in autoencoder_training"):
        planned(written(tmp_path, study_of(*two, more=some)), tmp_path / "out", Layers())
    every = f"varies: [{differ}]\n"
    plan = planned(written(tmp_path, study_of(*two, more=every)), tmp_path / "out", Layers())
    assert len(plan.steps) == 2
    with pytest.raises(UserError, match=r"varies\.0: received 'seed'"):
        load_studies(written(tmp_path, study_of(*two, more="varies: [seed]\n")))


def test_a_sweep_is_one_run_with_a_row_for_each_scale(tmp_path: Path) -> None:
    plan = planned(STUDIES / "pathldm-guidance.yaml", tmp_path, Layers())
    scales = [0.1, 0.5, 1.0, 1.5, 1.75, 2.0, 2.5, 3.0]
    names = [f"guidance-{scale:g}" for scale in scales]
    assert [list(table.rows) for table in plan.tables] == [names]
    assert [step.name for step in plan.steps] == names
    assert {step.folder for step in plan.steps} == {tmp_path / "pathldm"}
    for step, scale in zip(plan.steps, scales, strict=True):
        sample = step.recipe.sample
        assert (sample.guidance, sample.steps, sample.splits) == (scale, 50, ("train",))
        ((variant, folder),) = variants(step.recipe, step.folder / "samples")
        assert folder == step.samples == step.folder / "samples" / f"steps-50_guidance-{scale:g}"
        assert variant.sample.guidance == scale
        assert step.metrics == step.folder / "evaluation" / folder.name / "metrics.json"
    # The best one is the recipe's own.
    assert plan.tables[0].study.claims[0].left == "guidance-1.75"
    assert load_recipe(RECIPES / "pathldm" / "pathldm.yaml").sample.guidance == 1.75


def test_a_sweep_costs_one_training(tmp_path: Path) -> None:
    plan = planned(STUDIES / "pathldm-guidance.yaml", tmp_path)
    found = forecast(plan, find_speed("H100", tmp_path), cases=100)
    assert [step.steps for step in found.steps] == [2, *[0] * 7]
    flops = [step.train_flop for step in found.steps]
    assert flops[0] is not None
    assert flops[0] > 0
    assert set(flops[1:]) == {0.0}
    assert all(step.sample_flop for step in found.steps)
    assert found.steps[0].disk_bytes > 10 * found.steps[1].disk_bytes > 0


def test_what_a_sweep_cannot_be_made_of(tmp_path: Path) -> None:
    one = RECIPES / "pathldm" / "pathldm.yaml"
    two = study_of(one, RECIPES / "base.yaml", more="sweep: {guidance: [1, 2]}\n")
    with pytest.raises(UserError, match="a sweep is of one recipe; received 2"):
        load_studies(written(tmp_path, two))
    for more in ("sweep: {guidance: [1, 1.0]}\n", "sweep: {}\n"):
        with pytest.raises(UserError, match="it names nothing, or something twice"):
            planned(written(tmp_path, study_of(one, more=more)), tmp_path / "out")
    with pytest.raises(UserError, match=r"sweep\.guidence: unknown key; did you mean guidance\?"):
        load_studies(written(tmp_path, study_of(one, more="sweep: {guidence: [1]}\n")))
    path = tmp_path / "two.yaml"
    path.write_text(
        f"name: two\nstudies: [{STUDIES / 'pathldm-guidance.yaml'}, {STUDIES / 'table1.yaml'}]\n"
    )
    with pytest.raises(UserError, match="pathldm-guidance: a study with a sweep is run by itself"):
        planned(path, tmp_path / "out")
