"""A study that trains each recipe several times: plan, runs, table and verdicts."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kept_runs import run_with_features
from scipy.stats import t
from tiny_run import REPOSITORY

from voxella.autoencoder.load import AutoencoderPlan
from voxella.cli import main
from voxella.errors import UserError
from voxella.forecast.devices import find_speed
from voxella.forecast.forecast import forecast
from voxella.recipe.model import Recipe
from voxella.study import stage
from voxella.study.cases import StudyCases
from voxella.study.claims import Comparison
from voxella.study.load import load_studies
from voxella.study.plan import Plan, make_plan
from voxella.study.recipes import Layers
from voxella_importers.phantom.facts import patient_of
from voxella_importers.phantom.importer import split_of

RECIPES = REPOSITORY / "recipes"
STUDIES = RECIPES / "studies"
SMOKE = Layers(("smoke",))
CLAIM = "claims:\n  - {text: better, metric: kid_3d, left: radbase, side: below, right: base}\n"


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """The command line takes SIGTERM over; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def study(folder: Path, *recipes: str, seeds: int = 3, more: str = CLAIM) -> Path:
    paths = ", ".join(n if "/" in n else str(RECIPES / f"{n}.yaml") for n in recipes)
    path = folder / "mine.yaml"
    path.write_text(
        f"name: mine\nrecipes: [{paths}]\nseeds: {seeds}\ncolumns: [kid_3d, text_accuracy]\n{more}"
    )
    return path


def planned(path: Path, out: Path, layers: Layers = SMOKE) -> Plan:
    return make_plan(load_studies(path), out, layers)


def test_each_training_has_a_seed_and_a_folder_and_what_is_shared_keeps_its_seed(
    tmp_path: Path,
) -> None:
    path = study(tmp_path, "base", "radbase")
    plan = planned(path, tmp_path / "out")
    names = ["base", "base-seed-1", "base-seed-2", "radbase", "radbase-seed-1", "radbase-seed-2"]
    assert [step.name for step in plan.steps] == names
    assert [step.folder for step in plan.steps] == [tmp_path / "out" / name for name in names]
    assert [step.recipe.seed for step in plan.steps] == [0, 1, 2] * 2
    assert [list(table.rows) for table in plan.tables] == [["base", "radbase"]]
    assert [step.name for step in plan.trainings("radbase")] == names[3:]
    # All that is made in the workspace is made from the same: nothing of it is made twice.
    assert len({step.recipe.workspace for step in plan.steps}) == 1
    assert len({AutoencoderPlan.of(step.recipe).seed for step in plan.steps}) == 1
    shared = {"data", "prepare", "autoencoder", "autoencoder_training", "latent", "text"}
    base = [step.recipe.model_dump(include=shared) for step in plan.trainings("base")]
    assert base == [base[0]] * 3
    # The first training is what a study without repetition runs, where it runs it.
    once = planned(study(tmp_path, "base", "radbase", seeds=1), tmp_path / "out")
    assert [step.name for step in once.steps] == ["base", "radbase"]
    for step in once.steps:
        assert step == plan.step(step.name)
        assert "workspace_seed" not in step.recipe.model_dump()


def test_the_command_line_may_ask_for_another_number(tmp_path: Path) -> None:
    studies = load_studies(study(tmp_path, "base", "radbase", seeds=1)).with_seeds(2)
    assert len(make_plan(studies, tmp_path, SMOKE).steps) == 4
    with pytest.raises(UserError, match=r"--seeds 0: .*greater than or equal to 1"):
        studies.with_seeds(0)
    stages = load_studies(STUDIES / "pathldm-table2.yaml")
    with pytest.raises(UserError, match=r"--seeds 2: .*first stages are trained once"):
        stages.with_seeds(2)
    name = study(tmp_path, "base", more="until: check-autoencoder\n")
    with pytest.raises(UserError, match="received 3, and first stages are trained once"):
        load_studies(name)


def test_classifiers_learn_from_a_training_each_and_share_no_seed(tmp_path: Path) -> None:
    layers = Layers(("smoke",), ("classify.seeds=2",))
    studies = load_studies(STUDIES / "table3.yaml").with_seeds(2)
    plan = make_plan(studies, tmp_path, layers)
    assert [step.name for step in plan.steps[:2]] == ["ccella", "ccella-seed-1"]
    synth = plan.trainings("synth_clinical")
    # Each is two classifiers, of its seed and the next one.
    assert [step.recipe.seed for step in synth] == [0, 2]
    learnt = [step.recipe.classify.samples for step in synth if step.recipe.classify]
    assert learnt == [tmp_path / "ccella" / "samples", tmp_path / "ccella-seed-1" / "samples"]
    metrics = tmp_path / "synth_clinical-seed-2" / "classify" / "synth_clinical" / "metrics.json"
    assert synth[1].metrics == metrics
    real = [step.recipe.classify for step in plan.trainings("real")]
    assert [block and block.samples for block in real] == [None, None]


def test_a_sweep_has_a_row_for_each_scale_and_each_training_all_of_them(tmp_path: Path) -> None:
    studies = load_studies(STUDIES / "pathldm-guidance.yaml").with_seeds(2)
    plan = make_plan(studies, tmp_path, SMOKE)
    rows = plan.tables[0].rows
    assert len(plan.steps) == 2 * len(rows)
    two = plan.trainings("guidance-1.75")
    assert [step.name for step in two] == ["guidance-1.75", "guidance-1.75-seed-1"]
    assert [step.folder.name for step in two] == ["pathldm", "pathldm-seed-1"]
    assert {step.metrics.parent.name for step in two} == {two[0].metrics.parent.name}


def test_a_collection_trains_as_often_as_any_of_its_tables_asks(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    once = study(tmp_path / "one", "base", seeds=1, more="")
    once.write_text(once.read_text().replace("name: mine", "name: other"))
    both = tmp_path / "both.yaml"
    both.write_text(f"name: both\nstudies: [{study(tmp_path, 'base', 'radbase')}, {once}]\n")
    plan = planned(both, tmp_path / "out")
    assert len(plan.trainings("base")) == 3
    assert len(plan.trainings("base", plan.tables[1].study.seeds)) == 1


def test_a_name_that_a_training_has_is_taken(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(f"extends: {RECIPES / 'radbase.yaml'}\nname: base-seed-1\n")
    with pytest.raises(UserError, match="a training of another recipe has the name base-seed-1"):
        planned(study(tmp_path, "base", str(other), more=""), tmp_path / "out")


def test_a_dry_run_counts_every_training(tmp_path: Path) -> None:
    speed = find_speed("H100", tmp_path)
    once, thrice = (
        forecast(
            planned(study(tmp_path, "base", seeds=k, more=""), tmp_path, SMOKE), speed, cases=50
        )
        for k in (1, 3)
    )
    assert [step.steps for step in thrice.steps] == [2, 2, 2]
    assert once.hours is not None
    assert thrice.hours is not None
    assert once.work_hours == thrice.work_hours
    own = once.hours - (once.work_hours or 0)
    assert thrice.hours - (thrice.work_hours or 0) == pytest.approx(3 * own)


VALUES = {"base": [2.0, 2.1, 1.9], "radbase": [1.0, 1.2, 1.1]}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages that leave a number alone; the runs in order. The third of ``broken`` fails."""
    calls: list[str] = []

    def run_stages(recipe: Recipe, run: Path, **more: object) -> None:
        calls.append(run.name)

    def evaluate(recipe: Recipe, run: Path) -> None:
        broken = recipe.name == "broken"
        if broken and recipe.seed > 0:
            raise UserError("the disk is upside down")
        value = VALUES["base" if broken else recipe.name][recipe.seed]
        (run / "evaluation").mkdir(parents=True, exist_ok=True)
        kid = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 30}
        (run / "evaluation" / "metrics.json").write_text(json.dumps({"metrics": {"kid_3d": kid}}))

    monkeypatch.setattr(stage, "problems_of", lambda steps, ranks: {})
    monkeypatch.setattr(stage, "run_stages", run_stages)
    monkeypatch.setattr(stage, "evaluate", evaluate)
    return calls


def run(path: Path, out: Path, *more: str) -> int:
    return main(["study", str(path), "--profile", "smoke", "--out", str(out), *more])


def test_a_table_shows_means_and_each_training_on_demand(
    ran: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    path = study(tmp_path, "base", "radbase")
    assert run(path, out) == 0
    assert len(ran) == 6
    text = (out / "table.md").read_text()
    # Two levels by hand: an error of 0.1 / 1.96 over patients, 0.1 / sqrt(3) between trainings.
    patients, between = (0.1 / 1.959964) ** 2, 0.1**2 / 3
    degrees = (patients + between) ** 2 / (patients**2 / 29 + between**2 / 2)
    half = t.ppf(0.975, degrees) * np.sqrt(patients + between)
    assert f"| base | 2 ({2 - half:.3g} to {2 + half:.3g}; N 30) | - |" in text
    assert "| radbase | 1.1 (" in text
    assert "seed 1" not in text
    assert "Each number is the mean of 3 trainings" in text
    assert "It is over trainings and patients." in text
    # Without the cases: the two intervals, as squares.
    verdict = f"radbase below base in 3D KID: yes, {0.9 - half * 2**0.5:.3g} to "
    assert verdict in text
    assert f"a difference of {half * 2**0.5 * (1 + 0.8416 / 1.96):.3g} would show (80 % pow" in text
    (table,) = json.loads((out / "table.json").read_text())["tables"]
    row = table["rows"][0]
    assert [training["seed"] for training in row["trainings"]] == [0, 1, 2]
    assert [t["cells"]["kid_3d"]["value"] for t in row["trainings"]] == VALUES["base"]
    assert (out / row["trainings"][2]["metrics"]).is_file()
    with (out / "table.csv").open() as file:
        records = [r for r in csv.DictReader(file) if r["metric"] == "kid_3d"]
    assert [(r["recipe"], r["seed"]) for r in records] == [
        (name, seed) for name in VALUES for seed in ("", "0", "1", "2")
    ]
    ran.clear()
    assert run(path, out, "--table-only", "--each-seed") == 0
    assert ran == []
    shown = (out / "table.md").read_text()
    assert "| seed 2 | 1.9 (1.8 to 2; N 30) | - |" in shown
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "Each number is the mean of 3 trainings" in page
    capsys.readouterr()


def test_one_training_or_all_of_a_recipe_may_be_run_alone(ran: list[str], tmp_path: Path) -> None:
    path, out = study(tmp_path, "base", "radbase"), tmp_path / "out"
    assert run(path, out, "--only", "radbase-seed-1") == 0
    assert ran == ["radbase-seed-1"]
    text = (out / "table.md").read_text()
    assert "| radbase | 1.2 (N 30) |" in text
    assert "radbase has not run to its end" in text
    assert "undecided (base: not run yet)" in text
    ran.clear()
    assert run(path, out, "--only", "base") == 0
    assert ran == ["base", "base-seed-1", "base-seed-2"]
    text = (out / "table.md").read_text()
    assert "undecided (radbase: 1 of 3 trainings, and one says nothing of another)" in text
    assert run(path, out, "--only", "radbase") == 0
    assert "radbase below base in 3D KID: yes" in (out / "table.md").read_text()


def test_trainings_that_fail_are_named_and_the_others_count(ran: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(f"extends: {RECIPES / 'base.yaml'}\nname: broken\n")
    claim = "claims:\n  - {text: t, metric: kid_3d, left: base, side: below, right: broken}\n"
    path = study(tmp_path, str(tmp_path / "broken.yaml"), "base", more=claim)
    assert run(path, tmp_path / "out") == 2
    text = (tmp_path / "out" / "table.md").read_text()
    assert "- broken-seed-1 failed: the disk is upside down" in text
    assert "| broken | 2 (N 30) |" in text
    assert "| base | 2 (" in text
    assert "undecided (broken: 1 of 3 trainings" in text


KEPT = Layers(("smoke",), ("evaluate.feature_dim=4", "evaluate.fid_bootstrap=40"))
METRICS = ("kid_3d", "fid_3d", "text_sensitivity")


def repeated(tmp_path: Path, luck: Sequence[int]) -> tuple[StudyCases, StudyCases]:
    """The cases of a study of several trainings, and of its first trainings alone."""
    path = study(tmp_path, "base", "radbase", seeds=len(luck))
    plan = planned(path, tmp_path / "out", KEPT)
    for step in plan.steps:
        shift = 1.5 if step.row == "base" else 0.3
        run_with_features(step, shift, luck=luck[step.training])
    once = planned(study(tmp_path, "base", "radbase", seeds=1), tmp_path / "out", KEPT)
    return StudyCases(plan, torch.device("cpu")), StudyCases(once, torch.device("cpu"))


@pytest.mark.parametrize("metric", METRICS)
def test_trainings_that_are_all_alike_say_what_one_of_them_says(
    metric: str, tmp_path: Path
) -> None:
    """No variance between them, none of their own: what is left is that over patients."""
    cases, single = repeated(tmp_path, [1, 1])
    asked = Comparison("", metric, "radbase", "below", "base")
    found, one = cases.difference(asked), single.difference(asked)
    assert found is not None
    assert one is not None
    assert one.low is not None
    assert one.high is not None
    assert found.low is not None
    assert found.high is not None
    assert found.value == pytest.approx(one.value)
    assert found.n == one.n
    half = (found.high - found.low) / 2 / t.ppf(0.975, found.n - 1)
    if metric == "kid_3d":
        assert half == pytest.approx((one.high - one.low) / 2 / 1.959964)
    elif metric == "fid_3d":
        # Half an interval of quantiles of 40 draws is some two standard errors.
        assert half == pytest.approx((one.high - one.low) / 2 / 1.96, rel=0.35)
    else:
        assert half == 0.0
        assert (one.low, one.high) == (one.value, one.value)


@pytest.mark.parametrize("metric", ["kid_3d", "fid_3d"])
def test_trainings_that_differ_widen_the_interval(metric: str, tmp_path: Path) -> None:
    cases, single = repeated(tmp_path, [1, 2, 3])
    asked = Comparison("", metric, "radbase", "below", "base")
    found = cases.difference(asked)
    assert found is not None
    assert found.value is not None
    each = [
        cases.difference(asked, ([f"radbase{end}"], [f"base{end}"]))
        for end in ("", "-seed-1", "-seed-2")
    ]
    values = [one.value for one in each if one is not None and one.value is not None]
    assert found.value == pytest.approx(np.mean(values))
    assert single.difference(asked) == each[0]
    turned = cases.difference(Comparison("", metric, "base", "above", "radbase"))
    assert turned is not None
    assert turned.low == pytest.approx(-(found.high or 0))
    share = getattr(found, "trainings", None)
    # The trainings' features have nothing in common, and the real cases are in both recipes.
    assert share == pytest.approx(1.0, abs=0.2)


@pytest.mark.slow
def test_two_trainings_are_really_two_and_share_the_workspace(
    smoke_workspace: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(smoke_workspace, workspace, ignore=shutil.ignore_patterns("run"))
    before = {p: p.stat().st_mtime_ns for p in workspace.rglob("*.safetensors")}
    path, out = study(tmp_path, "base", seeds=2, more=""), tmp_path / "out"
    draws = ["--set", "evaluate.bootstrap=10", "--set", "evaluate.baseline_halves=2"]
    assert run(path, out, "--workspace", str(workspace), *draws) == 0
    after = {p: p.stat().st_mtime_ns for p in workspace.rglob("*.safetensors")}
    assert {p: t for p, t in after.items() if p in before} == before
    folders = [out / "base", out / "base-seed-1"]
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in folders]
    volumes = [next((folder / "samples").rglob("*.nii.gz")).read_bytes() for folder in folders]
    assert weights[0] != weights[1]
    assert volumes[0] != volumes[1]
    table: dict[str, Any] = json.loads((out / "table.json").read_text())["tables"][0]
    assert {row["status"] for row in table["rows"][0]["trainings"]} == {"finished"}


def test_the_study_on_phantoms_has_patients_and_trainings_enough(tmp_path: Path) -> None:
    layers = Layers(("phantom-study",))
    plan = planned(STUDIES / "phantom-table1.yaml", tmp_path, layers)
    six = [table.rows for table in planned(STUDIES / "table1.yaml", tmp_path, SMOKE).tables]
    assert [table.rows for table in plan.tables] == six
    assert len(plan.steps) == 18
    for step in plan.steps:
        recipe = step.recipe
        assert (recipe.autoencoder.name, recipe.backbone.name) == ("identity", "dit3d")
        assert recipe.sample.guidance == 2
        assert recipe.dropout.both > 0
    block = plan.steps[0].recipe.data.importer
    assert block is not None
    asked = {key: block.arguments[key] for key in ("cases", "val_share", "test_share")}
    shares = {key: float(asked[key]) for key in ("val_share", "test_share")}
    seed = int(block.arguments.get("seed", 0))
    splits = [split_of(seed, index, **shares) for index in range(int(asked["cases"]))]
    measured = {patient_of(seed, n) for n, split in enumerate(splits) if split == "test"}
    assert len(measured) >= 150
    assert splits.count("train") >= 1300


@pytest.mark.slow
def test_the_study_on_phantoms_runs_at_its_own_networks(tmp_path: Path) -> None:
    """One model, two trainings, 20 of the phantoms and two steps; without the slow detector."""
    small: tuple[str, ...] = (
        "data.importer.cases=20",
        "train.steps=2",
        "sample.steps=2",
        "evaluate.bootstrap=10",
    )
    small = (
        *small,
        "evaluate.metrics=[{name: distances}]",
        "autoencoder_check.cases=1",
    )
    draws = ("evaluate.fid_bootstrap=4", "evaluate.baseline_halves=2", "sample.count=2")
    options = [word for text in (*small, *draws) for word in ("--set", text)]
    path, out = STUDIES / "phantom-table1.yaml", tmp_path / "out"
    which = ["--profile", "phantom-study", "--only", "ccella", "--seeds", "2"]
    assert main(["study", str(path), *which, *options, "--out", str(out)]) == 0
    (table,) = json.loads((out / "table.json").read_text())["tables"]
    row = next(row for row in table["rows"] if row["recipe"] == "ccella")
    assert [training["status"] for training in row["trainings"]] == ["finished"] * 2
