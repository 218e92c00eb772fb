"""Studies that run: order, failures, resumption, comparison by cases, and the paper's at smoke."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kept_runs import run_with_features
from tiny_run import REPOSITORY

from voxella.case import Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe
from voxella.study import stage
from voxella.study.cases import StudyCases
from voxella.study.claims import Comparison
from voxella.study.load import load_studies
from voxella.study.plan import Plan, make_plan
from voxella.study.recipes import Layers
from voxella.study.results import read_result

RECIPES = REPOSITORY / "recipes"
STUDY = """name: mine
recipes: [{recipes}]
columns: [kid_3d]
claims:
  - {{text: better, metric: kid_3d, left: radbase, side: below, right: base}}
"""


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """The command line takes SIGTERM over; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def written(folder: Path, *names: str) -> Path:
    paths = [name if "/" in name else str(RECIPES / f"{name}.yaml") for name in names]
    path = folder / "mine.yaml"
    path.write_text(STUDY.format(recipes=", ".join(paths)))
    return path


def number(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 30}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Stages that do nothing but leave a number; (recipe, stage) as they are called."""
    calls: list[tuple[str, str]] = []

    def run_stages(recipe: Recipe, run: Path, *, until: str, **more: object) -> None:
        calls.append((recipe.name, until))

    def evaluate(recipe: Recipe, run: Path) -> None:
        calls.append((recipe.name, "evaluate"))
        if recipe.name == "broken":
            raise UserError("this scanner's volumes are upside down", remedy="turn them")
        if recipe.name == "crashing":
            raise KeyError("PATIENT REPORT TEXT")
        value = {"base": 2.0, "radbase": 1.0}.get(recipe.name, 3.0)
        (run / "evaluation").mkdir(parents=True, exist_ok=True)
        metrics = {"metrics": {"kid_3d": number(value)}}
        (run / "evaluation" / "metrics.json").write_text(json.dumps(metrics))

    monkeypatch.setattr(stage, "run_stages", run_stages)
    monkeypatch.setattr(stage, "evaluate", evaluate)
    return calls


def test_recipes_run_in_order_and_the_table_judges_them(
    ran: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    study = str(written(tmp_path, "base", "radbase"))
    assert main(["study", study, "--profile", "smoke", "--out", str(out)]) == 0
    each = [(name, until) for name in ("base", "radbase") for until in ("sample", "evaluate")]
    assert ran == each
    said = capsys.readouterr().out
    sentence = "radbase below base in 3D KID: yes, 0.859 to 1.14, N = 30"
    assert f"- {sentence} (from two separate intervals)" in said
    table = json.loads((out / "table.json").read_text())
    assert table["tables"][0]["verdicts"][0]["sentence"] == sentence
    assert [row["run"] for row in table["tables"][0]["rows"]] == ["base", "radbase"]

    ran.clear()
    shutil.rmtree(out / "base")
    options = ["--profile", "smoke", "--out", str(out)]
    assert main(["study", study, *options, "--only", "radbase"]) == 0
    assert {name for name, _ in ran} == {"radbase"}
    assert "base has not run to its end" in capsys.readouterr().out
    assert main(["study", study, *options, "--only", "rad"]) == 2
    assert "expected: base, radbase" in capsys.readouterr().err
    ran.clear()
    assert main(["study", study, *options, "--table-only"]) == 0
    assert ran == []


def test_a_recipe_that_fails_is_reported_and_the_others_go_on(
    ran: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, more in (
        ("broken", ""),
        ("crashing", ""),
        ("refused", "deepspeed: {train_batch_size: 0}\n"),
    ):
        text = f"extends: {RECIPES / 'base.yaml'}\nname: {name}\n{more}"
        (tmp_path / f"{name}.yaml").write_text(text)
    own = [str(tmp_path / f"{name}.yaml") for name in ("broken", "crashing", "refused")]
    study = str(written(tmp_path, *own, "base", "radbase"))
    weak = tmp_path / "profile.yaml"
    weak.write_text(
        (RECIPES / "profiles" / "smoke.yaml").read_text().replace("  train_batch_size: 2\n", "", 1)
    )
    out = tmp_path / "out"
    assert main(["study", study, "--profile", str(weak), "--out", str(out)]) == 2
    # What is known to be wrong is not begun.
    assert [name for name, until in ran if until == "sample"] == [
        *("broken", "crashing", "base", "radbase")
    ]
    said = capsys.readouterr().out
    assert "refused: cannot run" in said
    assert "this scanner's volumes are upside down" in said
    assert "KeyError in test_study_stage.py" in said
    table = (out / "table.json").read_text()
    assert "PATIENT" not in said + table
    status = {row["recipe"]: row["status"] for row in json.loads(table)["tables"][0]["rows"]}
    assert status == {
        **dict.fromkeys(("broken", "crashing", "refused"), "failed"),
        **dict.fromkeys(("base", "radbase"), "finished"),
    }


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("sample: {prompts: /none/p.jsonl}", "sample.prompts: /none/p.jsonl cannot be read"),
        ("sample: {space: source}", "sample.space: received source, and the study takes"),
        ("prepare: {crop_mm: [0, 128, 96]}", "prepare.crop_mm: an edge has to be above 0 mm"),
        ("evaluate: {medicalnet: README.md}", "cannot be read as weights of MedicalNet"),
    ],
)
def test_what_the_last_stages_would_refuse_is_not_begun(
    setting: str,
    words: str,
    ran: list[tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "README.md").write_text("no weights")
    names = ("base", "radbase")
    for name in names:
        text = f"extends: {RECIPES / name}.yaml\nname: {name}\n{setting}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    # A profile comes after the recipe, and has a crop of its own.
    shrunk = tmp_path / "profile.yaml"
    smoke = (RECIPES / "profiles" / "smoke.yaml").read_text()
    shrunk.write_text(smoke.replace("  crop_mm: [128, 128, 96]\n", "", 1))
    study = str(written(tmp_path, *(str(tmp_path / f"{name}.yaml") for name in names)))
    assert main(["study", study, "--profile", str(shrunk), "--out", str(tmp_path / "out")]) == 2
    assert ran == []
    said = capsys.readouterr().out
    for name in names:
        assert re.search(f"{name}: cannot run: [^=]*{re.escape(words)}", said)


@pytest.fixture
def two_runs(tmp_path: Path) -> Plan:
    study = written(tmp_path, "base", "radbase")
    layers = Layers(("smoke",), ("evaluate.feature_dim=4", "evaluate.fid_bootstrap=40"))
    plan = make_plan(load_studies(study), tmp_path / "out", layers)
    for step, shift in zip(plan.steps, (1.5, 0.0), strict=True):
        run_with_features(step, shift)
    return plan


@pytest.mark.parametrize("metric", ["kid_3d", "fid_3d", "text_accuracy", "text_auc_with_report"])
def test_two_runs_are_compared_by_the_cases_that_they_kept(metric: str, two_runs: Plan) -> None:
    cases = StudyCases(two_runs, torch.device("cpu"))
    found = cases.difference(Comparison("", metric, "radbase", "below", "base"))
    assert found is not None
    assert found.n == 12
    assert found.value is not None
    if metric.startswith("text"):
        # One head is always right, the other always wrong.
        assert found.value == 1.0
        return
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high < 0
    turned = cases.difference(Comparison("", metric, "base", "above", "radbase"))
    assert turned is not None
    assert turned.value == pytest.approx(-found.value)


def test_processes_share_the_draws_of_a_study(
    two_runs: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three processes, one after the other; the third one sees what all have found."""
    wanted = [Comparison("", "fid_3d", "radbase", "below", "base")]
    alone = StudyCases(two_runs, torch.device("cpu")).difference(wanted[0])
    parts: list[list[list[float]]] = [[], [], []]
    for rank in range(3):
        number = -1

        def all_gather_object(value: Any, rank: int = rank) -> list[Any]:
            nonlocal number
            if isinstance(value, bool):
                return [value] * 3
            number += 1
            parts[rank].append(value)
            # Those that come later have not sent theirs: something of the right length.
            later = [[0.0] * 25, [0.0] * 15, []]
            return [parts[other][number] if other <= rank else later[other] for other in range(3)]

        for name in ("study.cases", "evaluation.draws"):
            monkeypatch.setattr(f"voxella.{name}.all_gather_object", all_gather_object)
        cases = StudyCases(two_runs, torch.device("cpu"))
        cases.share_draws(wanted, Ranks(rank, rank, 3))
    # Of 40 draws, in blocks of 25.
    assert [[len(part) for part in own] for own in parts] == [[25, 25], [15, 15], [0, 0]]
    found = cases.difference(wanted[0])
    assert alone is not None
    assert found is not None
    assert (found.low, found.high) == (alone.low, alone.high)


def test_what_the_runs_have_not_kept_is_not_compared_by_cases(two_runs: Plan) -> None:
    cases = StudyCases(two_runs, torch.device("cpu"))
    for metric in ("kid_2d_axial", "ms_ssim", "accuracy", "text_accuracy_heldout"):
        assert cases.difference(Comparison("", metric, "radbase", "below", "base")) is None


@pytest.fixture(scope="module")
def workspace(smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all recipes share, made once; a copy, because other modules use it, too."""
    folder = tmp_path_factory.mktemp("study") / "workspace"
    shutil.copytree(smoke_workspace, folder, ignore=shutil.ignore_patterns("run"))
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the three tables: CCELLA, which stands in each of them, is trained once."""
    return tmp_path_factory.mktemp("study") / "out"


def smoke(name: str, workspace: Path, out: Path, *more: str) -> dict[str, Any]:
    study = str(RECIPES / "studies" / f"{name}.yaml")
    options = ["--profile", "smoke", "--workspace", str(workspace), "--out", str(out)]
    # Intervals of one case are not looked at here: no need for a thousand draws.
    draws = ["--set", "evaluate.bootstrap=10", "--set", "evaluate.baseline_halves=2"]
    assert main(["study", study, *options, *draws, *more]) == 0
    found: dict[str, Any] = json.loads((out / "table.json").read_text())["tables"][0]
    assert {row["status"] for row in found["rows"]} == {"finished"}
    assert found["unfinished"] == []
    assert all(not c["paper_shown"] for row in found["rows"] for c in row["cells"].values())
    return found


@pytest.mark.slow
def test_table_1_runs_at_smoke_size(workspace: Path, out: Path) -> None:
    found = smoke("table1", workspace, out)
    assert len(found["rows"]) == 6
    # One volume: nothing can be said, and that is what is said.
    assert {v["answer"] for v in found["verdicts"]} == {"undecided"}
    assert all(c["note"] for row in found["rows"] for c in row["cells"].values())
    assert "not of the paper's network" in found["paper_lines"][0]


@pytest.mark.slow
def test_table_2_runs_at_smoke_size_and_keeps_what_is_there(workspace: Path, out: Path) -> None:
    weights = out / "ccella" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns if weights.is_file() else None
    found = smoke("table2", workspace, out)
    assert before in (None, weights.stat().st_mtime_ns)
    accuracy = [row["cells"]["text_accuracy"]["value"] for row in found["rows"]]
    assert all(value in (0.0, 1.0) for value in accuracy)


@pytest.mark.slow
def test_table_3_runs_at_smoke_size_and_again_without_work(
    workspace: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = smoke("table3", workspace, out)
    positive = {row["recipe"]: row["cells"]["percent_positive"] for row in found["rows"]}
    assert [cell["n"] for cell in positive.values()] == [3, 2, 2, 5, 5]
    counterparts = Manifest.read(out / "ccella" / "samples")
    assert len(counterparts) == 2
    before = {
        path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors") if path.is_file()
    }
    capsys.readouterr()
    assert smoke("table3", workspace, out, "--only", "ccella", "--only", "real") == found
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert after == before
    assert "sample: up to date" in capsys.readouterr().out


@pytest.mark.slow
def test_first_stages_are_compared_without_a_diffusion_model(tmp_path: Path) -> None:
    pathldm = RECIPES / "pathldm"
    study = tmp_path / "stages.yaml"
    study.write_text(
        "name: stages\n"
        f"recipes: [{pathldm / 'f4-class.yaml'}, {pathldm / 'medfusion-class.yaml'}]\n"
        "varies: [autoencoder, autoencoder_training, latent]\n"
        "until: check-autoencoder\n"
        "columns: [kid_2d_axial]\n"
    )
    out = tmp_path / "out"
    assert main(["study", str(study), "--profile", "smoke", "--out", str(out)]) == 0
    assert not list(out.rglob("config.json")), "nothing is diffused"
    plan = make_plan(load_studies(study), out, Layers(("smoke",)))
    assert [step.until for step in plan.steps] == ["check-autoencoder"] * 2
    found = []
    for step in plan.steps:
        check = json.loads(step.metrics.read_text())["reconstruction"]
        number = read_result(step).entries["reconstruction_ssim"]
        assert number["value"] == pytest.approx(check["ssim"], abs=1e-12)
        assert number["low"] <= number["value"] <= number["high"]
        found.append(number["value"])
    assert found[0] != found[1], "each has its own workspace"
    rows = json.loads((out / "table.json").read_text())["tables"][0]["rows"]
    assert [row["status"] for row in rows] == ["finished"] * 2
    assert [(out / row["metrics"]).is_file() for row in rows] == [True, True]
