"""Pages about runs that are not finished, or not of the usual kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from report_reader import Elements, strips
from report_run import SECRET, SHAPE, write_run

from voxella.imaging.volume import read_volume, write_volume
from voxella.report.page import run_page
from voxella.report.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("report") / "the-run").run


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / run.name))


def test_what_is_absent_names_the_command_that_makes_it(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "recipe.yaml", bare)
    text = Elements(run_page(RunFolder.open(bare))).text
    for verb in ("sample", "evaluate", "train", "check-autoencoder", "prepare"):
        assert f"voxella {verb} bare/recipe.yaml --out bare" in text, verb
    assert "Downstream classifiers" not in text


def test_volumes_that_are_gone_are_left_out_with_the_command(copy: Path) -> None:
    shutil.rmtree(copy / "samples" / "volumes")
    text = Elements(run_page(RunFolder.open(copy))).text
    assert "no longer on the disk" in text
    assert "voxella sample the-run/recipe.yaml" in text


def test_a_synthetic_case_without_its_twin_is_shown_alone(copy: Path) -> None:
    (copy / "prepared" / "images" / "case-00_t2w.nii.gz").unlink()
    page = run_page(RunFolder.open(copy))
    numbers, pixels = strips(page, 0)["axial"]
    assert numbers["real"] == 0
    assert pixels[:, : numbers["width"] - 4].max() < 8
    assert "case-00-s000, without a real twin" in page


def change_recipe(run: Path, old: str, new: str) -> None:
    text = (run / "recipe.yaml").read_text()
    assert text.count(old) == 1
    (run / "recipe.yaml").write_text(text.replace(old, new))


def test_on_the_scans_own_grid_the_scan_itself_is_the_twin(copy: Path) -> None:
    change_recipe(copy, "space: prepared", "space: source")
    for path in (copy / "prepared" / "images").iterdir():
        scan = read_volume(path)
        write_volume(copy / "dataset" / "images" / path.name, 4000 * scan.array, scan.affine)
    numbers, pixels = strips(run_page(RunFolder.open(copy)), 0)["axial"]
    # Its own percentiles are black and white, here the first slice and the last.
    greys = [pixels[s * numbers["down"] + 4, 4] for s in range(SHAPE[2])]
    assert greys[0] < 6
    assert greys[-1] > 249
    assert greys == sorted(greys)


def test_of_a_sweep_the_first_data_set_is_shown(copy: Path) -> None:
    for place in ("samples", "evaluation"):
        (copy / place).rename(copy / "moved")
        (copy / place).mkdir()
        (copy / "moved").rename(copy / place / "steps-2_guidance-1")
    text = Elements(run_page(RunFolder.open(copy))).text
    assert "3 of 3 synthetic volumes of steps-2_guidance-1" in text
    assert "0.0931" in text
    assert "suspected copy" in text


def test_prompts_of_a_file_have_no_twins_and_their_text_only_when_asked_for(copy: Path) -> None:
    prompts = [{"id": f"case-{k:02d}", "report": f"{SECRET} case-{k:02d}"} for k in range(3)]
    path = copy / "prompts.jsonl"
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    change_recipe(copy, "  prompts: null", f"  prompts: {path}")
    shutil.rmtree(copy / "dataset")
    page = run_page(RunFolder.open(copy))
    assert "without real twins" in page
    assert "secret-marker" not in page
    asked = run_page(RunFolder.open(copy), with_reports=True)
    assert f"{SECRET} case-01" in Elements(asked).text


def test_texts_of_the_run_are_escaped(copy: Path) -> None:
    change_recipe(copy, "CCELLA, text and class", "<script>alert(1)</script>")
    page = run_page(RunFolder.open(copy))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
