"""Sections "Compare", "Data" and "Runs" of a run written by hand; what a folder is taken for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from report_run import SECRET, SHAPE, real_value, write_run
from starlette.testclient import TestClient
from view_model import client, post

from voxella.case import Manifest
from voxella.case.marks import MARKS, read_marks
from voxella.errors import UserError
from voxella.view.compare import compare_section, compared_sets
from voxella.view.data import data_section
from voxella.view.runs import runs_section
from voxella.view.target import Target
from voxella.workspace.folders import Folders


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return write_run(tmp_path_factory.mktemp("look") / "study" / "first")


@pytest.fixture
def browser(folders: Folders) -> TestClient:
    target = Target.of(folders.run)
    assert target.dataset is not None
    data = data_section(target.dataset, show_reports=False)
    return client([compare_section(compared_sets(target)), data, runs_section(target.runs)])


def slices(answered: Any) -> list[float]:
    """Return the grey of each slice along S; the run's volumes have one in each."""
    array = nib.Nifti1Image.from_bytes(answered.content).get_fdata()
    assert array.shape == SHAPE
    return [float(array[..., s].mean()) for s in range(SHAPE[2])]


def test_synthetic_real_and_nearest_are_the_right_volumes(browser: TestClient) -> None:
    (own,) = browser.get("/api/compare/sets").json()
    assert own == {"name": "first", "cases": 3}
    rows = browser.get("/api/compare/0").json()["rows"]
    assert [row[0] for row in rows] == [f"case-0{n}-s000" for n in range(3)]
    for place in range(3):
        told = browser.get(f"/api/compare/0/{place}").json()
        assert told["source"] == f"case-0{place}"
        assert told["real"] == ["t2w"]
        for side, synthetic in (("synthetic", True), ("real", False)):
            found = slices(browser.get(f"/api/compare/0/{place}/{side}/t2w.nii"))
            expected = [real_value(place, synthetic, s) for s in range(SHAPE[2])]
            assert found == pytest.approx(expected, abs=2e-3)
    for near in told["nearest"]:
        assert near["verdict"].startswith("suspected" if near["suspected"] else "not suspected")


def test_the_nearest_training_case_comes_with_distance_and_verdict(
    folders: Folders, browser: TestClient
) -> None:
    written = json.loads((folders.evaluation / "memorisation.json").read_text())
    facts = next(facts for facts in written["spaces"].values() if "worst" in facts)
    names = [row[0] for row in browser.get("/api/compare/0").json()["rows"]]
    pair = next(pair for pair in facts["worst"] if pair["synthetic"] in names)
    told = browser.get(f"/api/compare/0/{names.index(pair['synthetic'])}").json()["nearest"]
    near = next(one for one in told if one["distance"] == pair["distance"])
    assert near["training"] == pair["training"]
    assert near["suspected"] is pair["suspected"]
    index = int(pair["training"].removeprefix("case-"))
    path = f"/api/compare/0/{names.index(pair['synthetic'])}/{near['space']}/t2w.nii"
    assert slices(browser.get(path))[3] == pytest.approx(real_value(index, False, 3), abs=2e-3)


def test_marks_are_kept_beside_the_data_set_and_taken_back(
    folders: Folders, browser: TestClient
) -> None:
    where = "/api/compare/0/1/mark"
    kept = post(browser, where, {"mark": "artefact", "note": "a ring"})
    assert kept.json() == {"mark": "artefact", "note": "a ring"}
    post(browser, "/api/compare/0/2/mark", {"mark": "good", "note": ""})
    marks = read_marks(folders.samples)
    assert (marks["case-01-s000"].mark, marks["case-01-s000"].note) == ("artefact", "a ring")
    assert browser.get("/api/compare/0/1").json()["marked"]["mark"] == "artefact"
    assert [row[2] for row in browser.get("/api/compare/0").json()["rows"]] == [
        None, "artefact", "good",
    ]  # fmt: skip
    post(browser, where, {"mark": None, "note": ""})
    assert "case-01-s000" not in read_marks(folders.samples)
    for body, status in (
        ({"mark": "perfect"}, 422), ({"mark": None, "note": "x"}, 422), ({}, 422),
        ({"mark": "good", "note": "x" * 2001}, 422), ({"mark": "good", "case": "../x"}, 422),
    ):  # fmt: skip
        assert post(browser, where, body).status_code == status
    assert len((folders.samples / MARKS).read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "path",
    ["compare/1", "compare/0/9", "compare/0/0/other/t2w.nii", "compare/0/0/real/adc.nii",
     "compare/0/0/real/t2w.txt", "compare/0/0/real/..%2f..%2fmanifest.jsonl", "data/cases/99",
     "data/cases/0/adc.nii", "data/cases/0/..%2fmanifest.jsonl", "runs/3/log",
     "compare/0/0/..%2f..%2f..%2fetc%2fpasswd"],
)  # fmt: skip
def test_nothing_else_is_read(browser: TestClient, path: str) -> None:
    answered = browser.get(f"/api/{path}")
    assert answered.status_code == 404
    assert answered.json()["problem"].endswith(".")


def test_a_manifest_that_points_elsewhere_shows_nothing_of_it(tmp_path: Path) -> None:
    folders = write_run(tmp_path / "run", cases=2, synthetic=1)
    inside = folders.prepared
    outside = tmp_path / "outside.nii.gz"
    case = Manifest.read(inside).cases[0]
    (inside / case.images["t2w"]).rename(outside)
    (inside / case.images["t2w"]).symlink_to(outside)
    browser = client([data_section(inside, show_reports=False)])
    answered = browser.get("/api/data/cases/0/t2w.nii")
    assert answered.status_code == 422
    assert "outside of the data set's folder" in answered.json()["problem"]
    assert browser.get("/api/data/cases/1/t2w.nii").status_code == 200


def test_cases_come_with_findings_and_without_their_reports(
    folders: Folders, browser: TestClient
) -> None:
    told = browser.get("/api/data/cases").json()
    assert told["cases"] == 6
    assert "headers alone" in told["how"]
    errors = browser.get("/api/data/cases?only=error").json()
    # The data set's images were never written: headers tell.
    assert errors["found"] == 6
    one = browser.get("/api/data/cases/0").json()
    assert any(found["severity"] == "error" for found in one["findings"])
    assert (one["texts"], one["has_texts"]) == ({}, ["report"])
    for path in ("cases", "cases?only=note", "cases/0", "cases/5"):
        assert "secret-marker" not in browser.get(f"/api/data/{path}").text
    assert browser.get("/api/data/cases?only=worst").status_code == 422
    assert browser.get("/api/data/cases?start=-1").status_code == 422
    shown = client([data_section(folders.dataset, show_reports=True)])
    assert shown.get("/api/data/cases/2").json()["texts"] == {"report": f"{SECRET} case-02"}
    assert "They are patient data" in shown.get("/data").text
    assert "are not shown" in browser.get("/data").text


def test_the_checks_own_findings_are_shown_where_it_has_run(tmp_path: Path) -> None:
    folders = write_run(tmp_path / "run", cases=2, synthetic=1)
    finding = {"code": "image.odd", "severity": "warning", "message": "odd", "remedy": "look",
               "case": "case-01", "where": "t2w"}  # fmt: skip
    check = folders.dataset / "check"
    check.mkdir()
    (check / "check.json").write_text(json.dumps({"findings": [finding]}))
    browser = client([data_section(folders.dataset, show_reports=False)])
    told = browser.get("/api/data/cases?only=warning").json()
    assert [row["id"] for row in told["rows"]] == ["case-01"]
    assert told["how"] == "as voxella check has found them"
    assert browser.get("/api/data/cases/1").json()["findings"] == [finding]


def test_runs_show_stages_curves_and_metrics_and_grow(
    folders: Folders, browser: TestClient
) -> None:
    (run,) = browser.get("/api/runs").json()
    states = {stage["name"]: stage["state"] for stage in run["stages"]}
    assert states["import"] == states["prepare"] == states["train"] == "done"
    assert states["encode"] == "not done"
    measured = json.loads((folders.evaluation / "metrics.json").read_text())["metrics"]
    told = {metric["key"]: metric for metric in run["metrics"]}
    defined = {key for key, entry in measured.items() if entry.get("value") is not None}
    assert told.keys() == defined
    key = next(key for key in sorted(defined) if measured[key].get("low") is not None)
    for field in ("value", "low", "high"):
        assert told[key][field] == measured[key][field]
    log = folders.run / "train" / "log.jsonl"
    points = browser.get("/api/runs/0/log").json()
    assert points["loss/total"][-1][0] == 2000
    assert points["lr"][0][0] == 10
    text = log.read_text()
    log.write_text(text.rpartition("\n")[0] + '\n{"step": 2010, "loss/total": 0.125}\n')
    try:
        assert browser.get("/api/runs/0/log").json()["loss/total"][-1] == [2010, 0.125]
        assert browser.get("/api/runs").json()[0]["step"] == 2010
    finally:
        log.write_text(text)


def test_long_logs_are_thinned_to_their_first_and_last(tmp_path: Path) -> None:
    folders = write_run(tmp_path / "run", cases=2, synthetic=1)
    log = folders.run / "train" / "log.jsonl"
    log.write_text("".join(f'{{"step": {n}, "lr": {n}.5}}\n' for n in range(1, 5001)))
    browser = client([runs_section(Target.of(folders.run).runs)])
    points = browser.get("/api/runs/0/log").json()["lr"]
    assert (points[0], points[-1]) == ([1, 1.5], [5000, 5000.5])
    assert 590 < len(points) <= 601
    assert np.all(np.diff([step for step, _ in points]) > 0)


def test_a_study_shows_its_runs_side_by_side(folders: Folders) -> None:
    write_run(folders.run.parent / "second", cases=2, synthetic=1)
    target = Target.of(folders.run.parent)
    assert [run.name for run in target.runs] == ["first", "second"]
    browser = client([runs_section(target.runs), compare_section(compared_sets(target))])
    assert [run["name"] for run in browser.get("/api/runs").json()] == ["first", "second"]
    assert [one["name"] for one in browser.get("/api/compare/sets").json()] == ["first", "second"]


def test_a_folder_is_taken_for_what_it_is(folders: Folders, tmp_path: Path) -> None:
    model = Target.of(folders.model)
    assert (model.model, model.runs, model.dataset) == (folders.model, (), None)
    run = Target.of(folders.run)
    assert (run.model, run.dataset, run.name) == (folders.model, folders.dataset, "first")
    data = Target.of(folders.samples)
    assert (data.model, data.runs, data.dataset) == (None, (), folders.samples)
    (own,) = compared_sets(data)
    told = own.told(0)
    assert (told["source"], told["real"], told["nearest"]) == (None, [], [])
    with pytest.raises(UserError, match="there is nothing to view in it"):
        Target.of(tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        Target.of(tmp_path / "absent")
