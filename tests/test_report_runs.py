"""Pages about runs that are not finished, or not of the usual kind."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_reader import Elements, strips
from report_run import SECRET, SHAPE, real_value, write_run

from voxella.imaging.volume import read_volume, write_volume
from voxella.report.classifiers import classifiers_section
from voxella.report.page import run_page
from voxella.report.run_folder import RunFolder
from voxella.report.sweep import sweep_section
from voxella.workspace.record import StageRecord


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


def test_a_synthetic_case_without_its_counterpart_is_shown_alone(copy: Path) -> None:
    (copy / "prepared" / "images" / "case-00_t2w.nii.gz").unlink()
    page = run_page(RunFolder.open(copy))
    numbers, pixels = strips(page, 0)["axial"]
    assert numbers["real"] == 0
    assert pixels[:, : numbers["width"] - 4].max() < 8
    assert "case-00-s000, without a real counterpart" in page


def change_recipe(run: Path, old: str, new: str) -> None:
    text = (run / "recipe.yaml").read_text()
    assert text.count(old) == 1
    (run / "recipe.yaml").write_text(text.replace(old, new))


def test_on_the_scans_own_grid_the_scan_itself_is_the_counterpart(copy: Path) -> None:
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


def sweep(run: Path, settings: list[tuple[int, float]]) -> None:
    """Make the run's data set the first of several that differ in KID, and in their grey."""
    first, numbers = run / "first", run / "numbers"
    (run / "samples").rename(first)
    (run / "evaluation").rename(numbers)
    for place, (steps, guidance) in enumerate(settings):
        name = f"steps-{steps}_guidance-{guidance:g}"
        out = shutil.copytree(first, run / "samples" / name)
        made = {"sampler": "dpmpp_2m", "steps": steps, "guidance": guidance}
        StageRecord(out, "sample", made).complete(volumes=3)
        for path in (out / "volumes").iterdir():
            scan = read_volume(path)
            write_volume(path, np.full_like(scan.array, 96.2 * (1 + place)), scan.affine)
        out = shutil.copytree(numbers, run / "evaluation" / name)
        found = json.loads((out / "metrics.json").read_text())
        found["metrics"]["kid_3d"]["value"] = 0.01 * (1 + place)
        (out / "metrics.json").write_text(json.dumps(found))
    shutil.rmtree(first)
    shutil.rmtree(numbers)


def test_a_sweep_has_a_row_for_each_data_set_and_says_which_one_is_shown(copy: Path) -> None:
    sweep(copy, [(2, 1.0), (10, 1.0), (2, 2.5), (2, 4.0)])
    shutil.rmtree(copy / "evaluation" / "steps-10_guidance-1")
    run = RunFolder.open(copy)
    # In the order of the numbers: 2 steps come before 10.
    assert run.data_sets == [
        *("steps-2_guidance-1", "steps-2_guidance-2.5", "steps-2_guidance-4"),
        "steps-10_guidance-1",
    ]
    section = sweep_section(run)
    assert section is not None
    assert [(s.steps, s.guidance, s.cases, s.chosen) for s, _ in section.data.rows] == [
        *((2, 1.0, 3, True), (2, 2.5, 3, False), (2, 4.0, 3, False), (10, 1.0, 3, False)),
    ]
    assert [cells[0].value for _, cells in section.data.rows] == ["0.01", "0.03", "0.04", ""]
    # A line needs three points: over guidance there are, over steps there are not.
    kid = [c for c in section.data.charts if c.title.startswith("KID")]
    assert [(c.title, [line.name for line in c.lines]) for c in kid] == [
        ("KID, 3D features, over guidance", ["2 steps"])
    ]
    assert (kid[0].lines[0].first, kid[0].lines[0].last) == (0.01, 0.04)
    text = Elements(run_page(run)).text
    assert "3 of 3 synthetic volumes of steps-2_guidance-1" in text
    assert "about the one marked 2 steps, guidance 1." in text
    assert "voxella evaluate the-run/recipe.yaml --out the-run" in text
    assert "0.0931" in text
    assert "suspected copy" in text
    assert "evaluate" in run.records


def test_a_sweeps_pictures_are_of_the_same_cases_in_every_data_set(copy: Path) -> None:
    sweep(copy, [(2, 1.0), (10, 1.0)])
    (copy / "samples" / "steps-10_guidance-1" / "volumes" / "case-01-s000_t2w.nii.gz").unlink()
    section = sweep_section(RunFolder.open(copy))
    assert section is not None
    grid = section.data.grid
    assert [case for case, _ in grid.columns] == ["case-00", "case-01", "case-02"]
    assert [row.name for row in grid.rows] == [
        "real",
        "2 steps, guidance 1",
        "10 steps, guidance 1",
    ]
    greys = [[grey(picture) for picture in row.pictures] for row in grid.rows]
    middle = SHAPE[2] // 2
    assert greys[0] == pytest.approx([255 * real_value(k, False, middle) for k in range(3)], abs=2)
    assert greys[1] == pytest.approx([25.5] * 3, abs=2)
    assert greys[2][1] is None
    assert [greys[2][0], greys[2][2]] == pytest.approx([51, 51], abs=2)


def grey(picture: str | None) -> float | None:
    """The mean of a picture in the page."""
    if picture is None:
        return None
    data = base64.b64decode(picture.partition(",")[2])
    return float(np.asarray(Image.open(io.BytesIO(data))).mean())


def test_one_data_set_is_no_sweep(run: Path) -> None:
    assert sweep_section(RunFolder.open(run)) is None


def test_the_epoch_that_validation_chose_is_marked(run: Path) -> None:
    section = classifiers_section(RunFolder.open(run))
    assert section is not None
    charts = {chart.title: chart for chart in section.data[0].charts}
    assert {"Validation AUC", "pretrain: Validation AUC", "Validation loss"} <= charts.keys()
    chart = charts["Validation AUC"]
    # Seed 0 kept its second epoch of three, seed 1 its first.
    assert [line.mark for line in chart.lines] == [chart.lines[0].dots[1], chart.lines[1].dots[0]]
    assert "circle is the epoch that was kept" in chart.note
    (line,) = charts["pretrain: Validation AUC"].lines
    assert line.mark == line.dots[0]
    assert all(line.mark is None for line in charts["Training loss"].lines)


def test_commands_are_shown_as_given_with_the_stages_they_did(copy: Path) -> None:
    commands = {"import": "voxella run /home/someone/r.yaml --out /home/someone/the-run"}
    commands |= {"prepare": commands["import"], "sample": "voxella sample a/r.yaml"}
    places = {"import": "dataset", "prepare": "prepared", "sample": "samples"}
    for stage, command in commands.items():
        path = copy / places[stage] / "stage.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"command": command}))
    page = run_page(RunFolder.open(copy))
    text = Elements(page).text
    assert "voxella run .../r.yaml --out .../the-runimport, prepare" in text
    assert "voxella sample .../r.yamlsample" in text
    assert "someone" not in page


def test_prompts_of_a_file_have_no_counterparts_and_their_text_only_when_asked_for(
    copy: Path,
) -> None:
    prompts = [{"id": f"case-{k:02d}", "report": f"{SECRET} case-{k:02d}"} for k in range(3)]
    path = copy / "prompts.jsonl"
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    change_recipe(copy, "  prompts: null", f"  prompts: {path}")
    shutil.rmtree(copy / "dataset")
    page = run_page(RunFolder.open(copy))
    assert "without real counterparts" in page
    assert "secret-marker" not in page
    asked = run_page(RunFolder.open(copy), with_reports=True)
    assert f"{SECRET} case-01" in Elements(asked).text


def test_texts_of_the_run_are_escaped(copy: Path) -> None:
    change_recipe(copy, "CCELLA, text and class", "<script>alert(1)</script>")
    page = run_page(RunFolder.open(copy))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
