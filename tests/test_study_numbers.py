"""Differences, verdicts and tables of a study, from numbers written by hand."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_run import REPOSITORY, tiny_recipe

from voxella.case import Case, Manifest
from voxella.data.phantoms import MEASURED_ON_PHANTOMS
from voxella.errors import UserError
from voxella.metrics.declared.lookup import declared_numbers, number_of
from voxella.metrics.declared.published import Published
from voxella.metrics.distances.frechet import frechet_estimate
from voxella.metrics.distances.kernel import patient_kernels
from voxella.metrics.estimate import Estimate, wilson
from voxella.metrics.predictions import Predictions
from voxella.metrics.vectors import VectorSet
from voxella.recipe.load import load_recipe
from voxella.study.claims import Comparison, compare, comparisons
from voxella.study.differences import (
    frechet_difference,
    frechet_draws,
    interval_difference,
    kernel_difference,
)
from voxella.study.load import Claim, Study
from voxella.study.plan import Plan, Step, Table
from voxella.study.prediction_differences import COMPARED, prediction_difference
from voxella.study.results import Result, read_result
from voxella.study.table import fill
from voxella.study.written import write_tables

Side = Literal["below", "above"]


def vectors(values: NDArray[np.floating], patients: list[str]) -> VectorSet:
    return VectorSet.of(values, [f"c{n}" for n in range(len(values))], patients=patients)


def samples(*shifts: float, n: int = 14, width: int = 3) -> list[VectorSet]:
    draw = np.random.default_rng(5)
    names = [f"p{number:02d}" for number in range(n)]
    return [vectors(draw.normal(shift, 1.0, (n, width)), names) for shift in shifts]


def entry(value: float | None, low: float | None = None, high: float | None = None, **more: Any):  # type: ignore[no-untyped-def]
    note = None if value is not None else "too few cases"
    return {"value": value, "low": low, "high": high, "n": 240, "note": note, **more}


def step(name: str, folder: Path, *overrides: str) -> Step:
    recipe = tiny_recipe(*overrides, name=name)
    return Step(name, recipe, Path(f"{name}.yaml"), folder / name, "evaluate")


def result(name: str, folder: Path, entries: Mapping[str, Any], *, phantom: bool = False) -> Result:
    own = step(name, folder)
    differs = MEASURED_ON_PHANTOMS if phantom else None
    # As an evaluation by the paper's networks on its test cases writes it.
    published = Published(own.recipe.paper, differs, frozenset({"model", "accuracy"}))
    return Result(own, entries, published=published)


def comparison(side: Side = "below", metric: str = "kid_3d") -> Comparison:
    return Comparison("the paper says so", metric, "ccella", side, "base")


def test_the_difference_of_two_intervals_is_newcombes_for_proportions() -> None:
    """Newcombe 1998 (Statistics in Medicine 17:873), method 10, example (a): 56/70 and 48/80."""
    left, right = wilson(56, 70), wilson(48, 80)
    found = interval_difference(left, right)
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=5e-5)
    assert found.high == pytest.approx(0.3339, abs=5e-5)
    assert interval_difference(left, Estimate(0.6, None, None, 80)).low is None


def test_the_kernel_difference_is_the_jackknife_done_by_hand() -> None:
    real, left, right = samples(0.0, 0.3, 0.8)
    sides = [patient_kernels(real, other) for other in (left, right)]
    found = kernel_difference(*sides)

    def without(kept: NDArray[np.int64]) -> float:
        parts = [
            vectors(np.asarray(s.values)[kept], [s.patients[k] for k in kept])
            for s in (real, left, right)
        ]
        values = [patient_kernels(parts[0], other).distance() for other in parts[1:]]
        return values[0] - values[1]

    n = len(real)
    left_out = np.array([without(np.delete(np.arange(n), k)) for k in range(n)])
    error = math.sqrt(((left_out - left_out.mean()) ** 2).sum() * (n - 1) / n)
    assert found.value == pytest.approx(without(np.arange(n)))
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * error)
    assert found.n == n


def test_a_run_with_fewer_patients_is_compared_all_the_same() -> None:
    real, left, right = samples(0.0, 0.3, 0.8)
    few = vectors(np.asarray(left.values)[:9], list(left.patients[:9]))
    found = kernel_difference(patient_kernels(real, few), patient_kernels(real, right))
    assert found.n == 9
    assert found.low is not None


def test_sharing_the_draws_makes_a_small_difference_visible() -> None:
    real, left = samples(0.0, 1.0, n=60)
    right = vectors(np.asarray(left.values) + 0.15, list(left.patients))
    draws = [
        frechet_draws(real, side, seed=0, name="fid", replicates=100) for side in (left, right)
    ]
    found = frechet_difference(draws[0], draws[1], n=60)
    assert found is not None
    assert found.high is not None
    assert found.high < 0
    ends = [[float(end) for end in np.quantile(d.drawn, [0.025, 0.975])] for d in draws]
    apart = [Estimate(d.value, low, high, 60) for d, (low, high) in zip(draws, ends, strict=True)]
    separate = interval_difference(apart[0], apart[1])
    assert separate.high is not None
    assert separate.high > 0
    other = vectors(np.asarray(left.values), [f"{name}x" for name in left.patients])
    with pytest.raises(UserError, match="no case in common"):
        frechet_draws(real, other, seed=0, name="fid", replicates=2)
    assert (
        frechet_difference(
            draws[0], frechet_draws(other, other, seed=0, name="f", replicates=2), n=60
        )
        is None
    )


def predictions(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> Predictions:
    return Predictions.of([f"c{n:03d}" for n in range(len(scores))], truth, scores)


def test_predictions_are_compared_case_by_case() -> None:
    draw = np.random.default_rng(3)
    truth = np.arange(80) % 2 == 0
    noise = draw.random(80)
    good = predictions(np.clip(0.7 * truth + 0.3 * noise, 0, 1), truth)
    poor = predictions(noise, truth)
    for metric in sorted(COMPARED):
        found = prediction_difference(metric, [good], [poor], seed=0, replicates=100)
        assert found.low is not None
        assert found.low > 0, metric
        turned = prediction_difference(metric, [poor], [good], seed=0, replicates=100)
        assert turned.high == pytest.approx(-found.low), metric
        same = prediction_difference(metric, [poor, poor], [poor, poor], seed=0, replicates=20)
        assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    right = int((np.asarray(poor.scores > 0.5) == truth).sum())
    accuracy = prediction_difference("accuracy", [good], [poor], seed=0, replicates=1)
    assert accuracy.value == pytest.approx((80 - right) / 80)
    other = Predictions.of(["x"], [True], [0.5])
    with pytest.raises(UserError, match="the same cases"):
        prediction_difference("auc", [good], [other], seed=0, replicates=1)


@pytest.mark.parametrize(
    ("low", "high", "side", "answer"),
    [
        (-1.3, -0.8, "below", "yes"),
        (-1.3, -0.8, "above", "no"),
        (0.8, 1.3, "above", "yes"),
        (-0.1, 0.2, "below", "undecided"),
        (0.0, 0.0, "below", "undecided"),
    ],
)
def test_a_verdict_reads_as_the_claim_does(
    low: float, high: float, side: Side, answer: str, tmp_path: Path
) -> None:
    runs = [result(name, tmp_path, {"kid_3d": entry(1.0, 0.5, 1.5)}) for name in ("ccella", "base")]
    difference = Estimate((low + high) / 2, low, high, 240)
    outcome = compare(comparison(side), runs[0], runs[1], lambda asked: difference)
    ends = (0 - high, 0 - low) if side == "below" else (low, high)
    assert str(outcome) == (
        f"ccella {side} base in 3D KID: {answer}, {ends[0]:.3g} to {ends[1]:.3g}, N = 240"
    )
    assert outcome.paired


def test_without_the_cases_the_intervals_decide_and_few_patients_do_not(tmp_path: Path) -> None:
    close, far = entry(1.0, 0.9, 1.1), entry(2.0, 1.9, 2.1)
    runs = [
        result("ccella", tmp_path, {"kid_3d": close}),
        result("base", tmp_path, {"kid_3d": far}),
    ]
    outcome = compare(comparison(), runs[0], runs[1], lambda asked: None)
    assert (outcome.verdict.answer, outcome.paired) == ("yes", False)
    assert outcome.margin == pytest.approx((1 - 0.1 * 2**0.5, 1 + 0.1 * 2**0.5))
    few = result("base", tmp_path, {"kid_3d": far | {"n": 9}})
    assert "undecided (fewer than 10 patients" in str(compare(comparison(), runs[0], few))
    other = result("base", tmp_path, {"kid_3d": far | {"network": "random"}})
    assert "undecided (features of None and of random)" in str(
        compare(comparison(), runs[0], other)
    )
    undefined = result("base", tmp_path, {"kid_3d": entry(None)})
    assert "undecided (base: too few cases), N = 240" in str(
        compare(comparison(), runs[0], undefined)
    )
    missing = Result(step("base", tmp_path))
    assert "undecided (base: not run yet), N = 0" in str(compare(comparison(), runs[0], missing))


def test_lists_of_a_claim_are_every_pair() -> None:
    claim = Claim(text="t", metric=["fid_3d", "kid_3d"], left=["a", "b"], side="above", right=["b"])
    study = Study(name="s", recipes=[Path("a"), Path("b")], columns=["fid_3d"], claims=[claim])
    assert [c.name for c in comparisons(study)] == ["a above b in 3D FID", "a above b in 3D KID"]


def tabled(tmp_path: Path, *, comparable: bool, phantom: bool = False) -> Path:
    network = {"network": "medicalnet", "comparable_with_paper": comparable}
    claim = Claim(text="Better", metric="fid_3d", left="ccella", side="below", right="base")
    study = Study(
        name="mine", recipes=[Path("a")], columns=["fid_3d", "text_accuracy"], claims=[claim]
    )
    table = Table(study, ("base", "ccella"))
    runs = {
        "base": result("base", tmp_path, {"fid_3d": entry(0.08, 0.07, 0.09, **network)}),
        "ccella": result(
            "ccella",
            tmp_path,
            {"fid_3d": entry(0.03, 0.02, 0.04, **network), "text_accuracy": entry(0.8)},
            phantom=phantom,
        ),
    }
    plan = Plan("mine", tmp_path, tuple(run.step for run in runs.values()), (table,))
    for path in write_tables(plan, [fill(table, runs)]):
        assert path.is_file()
    return tmp_path


def test_the_papers_numbers_stand_beside_ours_where_they_can_be_compared(tmp_path: Path) -> None:
    folder = tabled(tmp_path, comparable=True)
    text = (folder / "table.md").read_text()
    assert "| recipe | 3D FID ↓ | paper | text accuracy ↑ | paper |" in text
    assert "| base | 0.08 (0.07 to 0.09; N 240) | 0.071 | - | - |" in text
    assert "| ccella | 0.03 (0.02 to 0.04; N 240) | 0.025 | 0.8 (N 240) | 0.81 |" in text
    assert "- ccella below base in 3D FID: yes, 0.0359 to 0.0641, N = 240" in text
    data = json.loads((folder / "table.json").read_text())
    rows = {row["recipe"]: row for row in data["tables"][0]["rows"]}
    assert rows["ccella"]["cells"]["fid_3d"]["paper_shown"] is True
    assert data["tables"][0]["verdicts"][0]["answer"] == "yes"
    with (folder / "table.csv").open() as file:
        records = {(r["recipe"], r["metric"]): r for r in csv.DictReader(file)}
    assert records["ccella", "fid_3d"]["paper"] == "0.025"
    assert records["base", "text_accuracy"]["value"] == ""


@pytest.mark.parametrize(("comparable", "phantom"), [(False, False), (True, True)])
def test_the_papers_numbers_never_stand_beside_others(
    comparable: bool, phantom: bool, tmp_path: Path
) -> None:
    folder = tabled(tmp_path, comparable=comparable, phantom=phantom)
    text = (folder / "table.md").read_text()
    assert "0.071" not in text
    assert "0.025" not in text
    of_another = "the features are of medicalnet, not of the paper's network"
    why = "measured on phantoms" if phantom else of_another
    assert f"not shown beside ours: {why}" in text
    assert ",0.025" not in (folder / "table.csv").read_text()
    cells = json.loads((folder / "table.json").read_text())["tables"][0]["rows"][1]["cells"]
    assert cells["fid_3d"]["paper_shown"] is False


def test_with_fewer_cases_than_features_the_papers_claim_is_decided_with_a_warning(
    tmp_path: Path,
) -> None:
    """As of table 1, whose 740 cases have 2048 features: here 40 and 64."""
    singular = load_recipe(str(REPOSITORY / "recipes" / "ccella.yaml")).evaluate.fid_singular
    real, near, far = samples(0.0, 0.1, 2.0, n=40, width=64)
    network = {"network": "medicalnet", "comparable_with_paper": True}
    runs = {}
    for name, made in (("base", far), ("ccella", near)):
        found = frechet_estimate(
            real, made, seed=0, name="fid_3d", paired=True, replicates=40, singular=singular
        )
        runs[name] = result(name, tmp_path, {"fid_3d": found.as_json() | network})
    claim = Claim(text="Better", metric="fid_3d", left="ccella", side="below", right="base")
    study = Study(name="mine", recipes=[Path("a")], columns=["fid_3d"], claims=[claim])
    table = Table(study, ("base", "ccella"))
    plan = Plan("mine", tmp_path, tuple(run.step for run in runs.values()), (table,))
    write_tables(plan, [fill(table, runs)])
    text = (tmp_path / "table.md").read_text()
    assert "- ccella below base in 3D FID: yes" in text
    assert "| 0.025 |" in text
    assert "- warning: base/fid_3d, ccella/fid_3d: 40 vectors of 64 features" in text


def test_results_are_read_from_a_run_and_phantoms_are_recognised(tmp_path: Path) -> None:
    own = step("ccella", tmp_path)
    assert read_result(own).status == "missing"
    assert read_result(own, "no disk").status == "failed"
    own.metrics.parent.mkdir(parents=True)
    measured = {"metrics": {"text_accuracy": entry(0.8, 0.7, 0.9)}}
    own.metrics.write_text(json.dumps({**measured, "paper": {"model": "m", "accuracy": 0.81}}))
    number = read_result(own).number("text_accuracy")
    assert (number.paper, number.comparable) == (0.81, False)
    assert number.why_not == "measured on phantoms, the paper's on patients"
    assert read_result(own).number("kid_3d").estimate.note == "not measured by evaluate"

    dataset = tmp_path / "dataset"
    dataset.mkdir()
    real = step("ccella", tmp_path, f"data.dataset={dataset}")
    assert read_result(real).number("text_accuracy").comparable
    record = dataset / "stage.json"
    record.write_text(json.dumps({"inputs": {"importer": {"name": "phantom"}}}))
    assert not read_result(real).number("text_accuracy").comparable
    record.unlink()
    # Of other cases, or seen by other networks: the evaluation left the paper's number out.
    own.metrics.write_text(json.dumps(measured))
    number = read_result(real).number("text_accuracy")
    assert (number.paper, number.comparable) == (0.81, False)
    assert number.why_not == "not measured as in the paper"
    own.metrics.write_text(json.dumps({**measured, "paper": {"model": "m", "accuracy": 0.81}}))
    # Through another importer: the cases still say it of themselves.
    record.write_text(json.dumps({"inputs": {"importer": {"name": "table"}}}))
    case = Case(
        id="a", group="a", images={"t2w": "a.nii.gz"}, label="positive", label_source="table"
    )
    for source, comparable in (("table", True), ("phantom", False)):
        Manifest(dataset, [case.model_copy(update={"label_source": source})]).write()
        assert read_result(real).number("text_accuracy").comparable is comparable, source


def test_metrics_have_headings_and_places_in_the_paper() -> None:
    assert number_of("fid_2d_axial").heading == "2D FID axial"
    assert number_of("fid_2d_axial").column == "2D FID axial ↓"
    assert number_of("ms_ssim").column == "MS-SSIM between volumes"
    assert number_of("text_ppv_heldout_with_report").paper_key == "ppv"
    assert number_of("auc").paper_key == "auc"
    known = {"fid_3d", "kid_2d_coronal", "text_auc", "percent_positive"}
    assert known <= set(declared_numbers())
