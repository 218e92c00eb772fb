"""The page about a run: whole, self-contained, private, and true to the files it was made from."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import stat
from pathlib import Path

import pytest
from report_reader import Elements, strips
from report_results import write_evaluation
from report_run import CASES, SECRET, SHAPE, real_value, write_run

from voxella.case import Manifest
from voxella.cli import main
from voxella.recipe.load import load_recipe
from voxella.report.page import run_page
from voxella.report.run_folder import RunFolder
from voxella.report.write import write_report
from voxella.workspace.folders import Folders

NOT_COMPARABLE = (
    "The features are of a random network, not of the paper's network; "
    "not comparable with the paper"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("report") / "the-run").run


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / run.name))


def folders_of(run: Path) -> Folders:
    recipe = load_recipe(run / "recipe.yaml")
    return Folders.of(run, recipe.workspace, recipe.data.dataset)


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    elements = Elements(page)
    for tag, attributes in elements.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "#")), (tag, value)
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert not elements.of("link")
    assert not elements.of("iframe")


def test_the_policy_admits_the_pages_own_script_and_style_alone(page: str) -> None:
    meta = next(m for m in Elements(page).of("meta") if m.get("http-equiv"))
    policy = str(meta["content"])
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_no_report_text_and_no_folder_is_in_it(run: Path, page: str) -> None:
    assert "secret-marker" not in page
    assert "Hypointense" not in page
    assert str(run) not in page
    assert str(run.parent) not in page
    assert "No report text is in it" in page


def test_report_text_is_there_when_asked_for_escaped_and_for_the_owner_alone(copy: Path) -> None:
    assert main(["report", str(copy), "--with-reports", "--out", str(copy / "with.html")]) == 0
    path = copy / "with.html"
    page = path.read_text(encoding="utf-8")
    assert "This page holds report text" in page
    assert f"{SECRET} case-00" in Elements(page).text
    assert "<b>left</b>" not in page
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_report_that_has_changed_since_is_not_shown(copy: Path) -> None:
    (copy / "dataset" / "reports" / "case-00.txt").write_text("another text entirely")
    page = run_page(RunFolder.open(copy), with_reports=True)
    assert "another text entirely" not in page
    assert "The report has changed since" in page
    assert f"{SECRET} case-01" in Elements(page).text


@pytest.mark.parametrize("pair", [0, 2])
def test_slices_are_those_of_the_files_real_left_and_synthetic_right(page: str, pair: int) -> None:
    planes = strips(page, pair)
    assert list(planes) == ["axial", "coronal", "sagittal"]
    numbers, pixels = planes["axial"]
    assert (numbers["width"], numbers["height"]) == SHAPE[:2]
    assert numbers["count"] == numbers["of"] == SHAPE[2]
    for side, synthetic in enumerate((False, True)):
        for s in range(SHAPE[2]):
            top, left = s * numbers["down"] + 4, side * numbers["across"] + 4
            shown = pixels[top : top + 8, left : left + 8].mean()
            assert shown == pytest.approx(255 * real_value(pair, synthetic, s), abs=3)


def test_pixels_are_square_in_millimetres_and_superior_is_up(page: str) -> None:
    numbers, pixels = strips(page, 0)["coronal"]
    # 24 voxels of 2 mm by 12 of 3 mm, on pixels of 2 mm.
    assert (numbers["width"], numbers["height"]) == (24, 18)
    assert numbers["count"] == SHAPE[1]
    column = pixels[: numbers["height"], 10].astype(int)
    assert column[0] == pytest.approx(255 * real_value(0, False, SHAPE[2] - 1), abs=6)
    assert column[-1] == pytest.approx(255 * real_value(0, False, 0), abs=6)


def test_the_paper_does_not_stand_beside_a_random_network(page: str) -> None:
    text = Elements(page).text
    assert NOT_COMPARABLE in text
    assert "Paper: ccella" not in text
    assert "0.025" not in text  # the paper's 3D FID, which the recipe keeps
    assert "0.0931" in text
    assert "0.071 to 0.125" in text


@pytest.mark.parametrize(("importer", "shown"), [("table", True), ("phantom", False)])
def test_the_paper_stands_beside_its_own_network_on_patients(
    copy: Path, importer: str, shown: bool
) -> None:
    record = json.loads((copy / "dataset" / "stage.json").read_text())
    record["inputs"]["importer"]["name"] = importer
    (copy / "dataset" / "stage.json").write_text(json.dumps(record))
    # The cases, too, say what they are.
    manifest = Manifest.read(copy / "dataset")
    told = [case.model_copy(update={"label_source": importer}) for case in manifest]
    Manifest(copy / "dataset", told).write()
    cases = [f"case-{k:02d}" for k in range(CASES)]
    write_evaluation(folders_of(copy), cases, 3, network="medicalnet")
    text = Elements(run_page(RunFolder.open(copy))).text
    assert ("Paper: ccella" in text) is shown
    assert ("0.025" in text) is shown
    assert ("5.27" in text) is False  # a metric that was not measured
    assert ("Measured on phantoms, the paper's on patients" in text) is not shown


def test_every_part_of_a_finished_run_is_shown(page: str) -> None:
    text = Elements(page).text
    for words in (
        "CCELLA, text and class from the report",
        "3 of 3 synthetic volumes",
        "no detector: .../x is absent",  # why a metric has no value
        "fewer than three training cases",  # why a space has no pairs
        "suspected copy",
        "The gate holds the data set back: copies beyond chance 5 %, 1 % at most",
        "Calibration of the text head",
        "46.0 %",
        "Not trusted",
        "at least 0.95",
        "Receiver operating characteristic",
        "Reconstruction loss by noise level",
        "Negative predictive value is not known: nothing was called negative",
        "The data are phantoms; not comparable with the paper",
        "Left out1 case",
        "voxella run the-run/recipe.yaml --out the-run",
        "voxella report the-run",
        "torch==",
        "steps 2000",
    ):
        assert words.replace("\n", " ") in text, words
    assert "This command makes it" not in text


def test_the_same_run_gives_the_same_bytes(run: Path, page: str) -> None:
    assert run_page(RunFolder.open(run)) == page


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "there is no folder"),
        (["empty"], "is no run that has been trained"),
        (["the-run", "--cases", "0"], "--cases 0"),
        (["the-run", "--out", "empty"], "is a folder"),
    ],
)
def test_mistakes_are_told(
    copy: Path,
    words: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(copy.parent)
    (copy.parent / "empty").mkdir()
    assert main(["report", *words]) == 2
    assert told in capsys.readouterr().err


def test_fewer_cases_are_shown_when_asked_for_and_of_both_classes(run: Path) -> None:
    page = run_page(RunFolder.open(run), cases=2)
    thumbs = [b for b in Elements(page).of("button") if b.get("class") == "thumb"]
    told = " ".join(str(thumb["data-told"]) for thumb in thumbs)
    assert len(thumbs) == 2
    assert "negative" in told
    assert "positive" in told
