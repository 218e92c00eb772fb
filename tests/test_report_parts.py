"""Parts of the page by themselves: strips of slices, drawings, numbers, paths, a study."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from report_results import estimate
from report_run import write_run

from voxella.metrics.declared.lookup import number_of
from voxella.metrics.declared.published import Published
from voxella.recipe.model import PaperRow
from voxella.report.charts import HEIGHT, WIDTH, line_chart
from voxella.report.numbers import make_row, shown
from voxella.report.pairs import Shown
from voxella.report.section import shortened, without_folders
from voxella.report.sprites import Sprite, make_sprites
from voxella.report.write import write_report

CUBE = (1.0, 1.0, 1.0)


def pixels(sprite: Sprite) -> NDArray[np.uint8]:
    data = base64.b64decode(sprite.uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


def test_right_is_left_and_anterior_is_up() -> None:
    array = np.zeros((16, 16, 16), dtype=np.float32)
    array[12:, 12:, :] = 1.0  # the patient's right and anterior corner
    axial, coronal, sagittal = make_sprites(None, Shown(array, CUBE), 10**6).planes
    tile = pixels(axial)[:16, axial.pitch[0] : axial.pitch[0] + 16]
    assert tile[:4, :4].min() > 240
    assert tile[:, 5:].max() < 15
    assert (coronal.plane, sagittal.plane) == ("coronal", "sagittal")
    # Sagittal slices run from left to right; anterior is on the left of each.
    last = pixels(sagittal)[15 * sagittal.pitch[1] :, sagittal.pitch[0] :]
    assert last[:16, :4].min() > 240
    assert last[:16, 5:16].max() < 15


def test_strips_are_thinned_until_they_fit() -> None:
    noise = np.random.default_rng(0).random((96, 96, 96)).astype(np.float32)
    side = Shown(noise, CUBE)
    fine = make_sprites(side, side, 10**8)
    allowance = fine.size // 2
    thinned = make_sprites(side, side, allowance)
    assert fine.planes[0].count == 48
    assert thinned.size <= allowance
    assert thinned.planes[0].count < 48
    assert thinned.planes[0].of == 96
    # Nothing fits into nothing: the coarsest is taken, and it is bounded.
    assert make_sprites(side, side, 0).planes[0].count == 16


def test_one_slice_has_one_plane() -> None:
    flat = Shown(np.full((8, 10, 1), 0.5, dtype=np.float32), (1.0, 1.0, 5.0))
    (axial,) = make_sprites(flat, flat, 10**6).planes
    assert (axial.plane, axial.count, axial.width, axial.height) == ("axial", 1, 8, 10)
    assert pixels(axial)[:8, :8].mean() == pytest.approx(128, abs=2)


def test_a_line_goes_from_corner_to_corner_of_its_axes() -> None:
    chart = line_chart("rise", {"a": [(0.0, 0.0), (50.0, math.nan), (100.0, 10.0)]})
    assert chart is not None
    (line,) = chart.lines
    first, last = ([float(n) for n in point.split(",")] for point in line.points.split())
    assert (line.first, line.last, line.lowest, line.highest) == (0.0, 10.0, 0.0, 10.0)
    assert first == [chart.left, chart.bottom]
    assert last[0] == chart.right
    assert chart.top < last[1] < 0.2 * HEIGHT
    assert [tick.text for tick in chart.x_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert all(0 <= tick.place <= WIDTH for tick in chart.x_ticks)


def test_wide_ranges_get_a_logarithmic_axis_where_asked_for() -> None:
    points = [(float(k), 10.0 ** (-k)) for k in range(5)]
    chart, plain = (line_chart("fall", {"a": points}, log=log) for log in (True, False))
    assert chart is not None
    assert plain is not None
    heights = [float(point.split(",")[1]) for point in chart.lines[0].points.split()]
    assert np.diff(heights) == pytest.approx(np.diff(heights)[0], abs=0.2)
    assert [tick.text for tick in chart.y_ticks] == ["1e-4", "0.001", "0.01", "0.1", "1"]
    assert "1e-4" not in [tick.text for tick in plain.y_ticks]


def test_long_series_are_averaged_and_empty_ones_left_out() -> None:
    points = [(float(k), float(k % 2)) for k in range(10_000)]
    chart = line_chart("many", {"a": points, "b": []})
    assert chart is not None
    (line,) = chart.lines
    assert len(line.points.split()) <= 240
    assert line.highest == 1.0
    assert line_chart("none", {"a": [(1.0, math.inf)]}) is None


def test_one_point_is_drawn_as_a_dot() -> None:
    chart = line_chart("dot", {"a": [(0.5, 0.5)]}, unit_square=True)
    assert chart is not None
    first, last = chart.lines[0].points.split()
    middle = (chart.left + chart.right) / 2, (chart.top + chart.bottom) / 2
    assert first == last
    assert [float(n) for n in first.split(",")] == pytest.approx(middle, abs=0.1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.0123"),
        (12, "12"),
        (1234.5, "1,234"),
        (0.0, "0"),
        (-0.5, "-0.5"),
        (99.95, "100"),
    ],
)
def test_numbers_are_written_with_three_digits(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_bar_lies_between_its_ends() -> None:
    known = {"network": "medicalnet", "comparable_with_paper": True}
    entry = estimate(0.5, 0.25, 0.75, split="test", **known)
    bar = make_row("text_auc", entry, Published(PaperRow(model="m", auc=1.0))).bar
    assert bar is not None
    assert bar.interval == (32.0, 88.0)  # a quarter and three quarters of 4..116
    assert (bar.value, bar.paper) == (60.0, 116.0)
    # The paper's is of held-out patients: not beside one of training cases.
    other = make_row(
        "text_auc", {**entry, "split": "train"}, Published(PaperRow(model="m", auc=1.0))
    )
    assert (other.paper, other.refusal) == (
        "",
        "the paper's is of cases of the split test, not of train; not comparable with the paper",
    )
    alone = make_row("percent_positive", estimate(50.0, None, None), Published(None))
    assert alone.bar is None


@pytest.mark.parametrize(
    ("entry", "allowed", "number", "why"),
    [
        ({"network": "random-seed0", "comparable_with_paper": False}, (), None, "random network"),
        ({"network": "medicalnet", "comparable_with_paper": True}, (), 0.8, ""),
        ({"network": "medicalnet"}, ("accuracy",), None, "medicalnet"),
        ({}, ("accuracy",), 0.8, ""),
        ({}, (), None, "not measured as in the paper"),
        ({"comparable_with_paper": False}, ("accuracy",), None, "not measured as in the paper"),
        ({"value": None, "comparable_with_paper": True}, (), None, ""),
    ],
)
def test_what_may_stand_beside_the_paper(
    entry: dict[str, Any], allowed: tuple[str, ...], number: float | None, why: str
) -> None:
    published = Published(PaperRow(model="m", accuracy=0.8), None, frozenset(allowed))
    found = published.beside("accuracy", {"value": 0.7, **entry})
    assert found[0] == number
    assert why in found[1]
    differs = Published(PaperRow(model="m", accuracy=0.8), "phantoms", frozenset(allowed))
    assert differs.beside("accuracy", {"value": 0.7, **entry})[0] is None


def test_metrics_have_names_directions_and_the_papers_keys() -> None:
    assert number_of("fid_2d_axial").beside_paper == "fid_2d_axial"
    assert number_of("kid_3d").paper_key is None
    assert number_of("text_accuracy").beside_paper == "accuracy"
    assert number_of("text_accuracy_with_report").beside_paper is None
    assert (
        number_of("text_auc_heldout_with_report").group == "Text head, unseen cases with a report"
    )
    assert number_of("text_auc_heldout").group == "Text head, unseen reports"
    better = ["fid_3d", "text_brier", "coverage", "ms_ssim", "copies_beyond_chance_image"]
    better += ["text_prevalence_heldout"]
    assert [number_of(name).better for name in better] == [
        "lower",
        "lower",
        "higher",
        "",
        "lower",
        "",
    ]
    assert number_of("never_heard_of").label == "never heard of"


def test_recipes_are_shown_without_folders() -> None:
    recipe = {"a": "/home/someone/data/x.pt", "b": ["~/y", "plain", 3, None], "c": r"C:\d\z.txt"}
    wanted = {"a": ".../x.pt", "b": [".../y", "plain", 3, None], "c": ".../z.txt"}
    assert without_folders(recipe) == wanted


def test_sentences_are_shown_without_folders_and_otherwise_as_they_are() -> None:
    told = "weights at /home/someone/w.pt: absent; 3/4 of 1/2, and/or see a.b/c (/etc/x/y)"
    wanted = "weights at .../w.pt: absent; 3/4 of 1/2, and/or see a.b/c (.../y)"
    assert shortened(told) == wanted
    assert shortened(r"at C:\Users\someone\w.pt, absent") == "at .../w.pt, absent"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of two recipes, one of which has run."""
    folder = tmp_path / "table1"
    write_run(folder / "ccella")
    cells: dict[str, dict[str, Any]] = {
        "ccella": {"value": 0.05, "low": 0.03, "high": 0.08, "n": 40, "paper": 0.025},
        "base": {"value": None, "low": None, "high": None, "n": 0, "note": "not run yet"},
    }
    rows = [
        {
            "recipe": name,
            "run": name,
            "status": "",
            "cells": {"fid_3d": {**cell, "paper_shown": False}},
        }
        for name, cell in cells.items()
    ]
    verdict = {"text": "CCELLA is better", "answer": "undecided", "sentence": "3D FID: undecided"}
    table = {
        "name": "table1",
        "description": "Distances",
        "columns": [{"metric": "fid_3d", "heading": "3D FID", "paper": False}],
        "rows": rows,
        "verdicts": [verdict],
        "paper_lines": ["The paper has 3D FID of these recipes; not shown beside ours: phantoms."],
        "unfinished": ["base has not run to its end"],
    }
    (folder / "table.json").write_text(json.dumps({"format": 1, "study": "s", "tables": [table]}))
    return folder


def test_a_study_has_its_tables_and_a_chapter_for_every_run(study: Path) -> None:
    page = write_report(study).read_text(encoding="utf-8")
    for words in (
        "0.03 to 0.08",
        "CCELLA is better",
        "base has not run",
        "not run yet",
        "not shown beside ours",
    ):
        assert words in page, words
    assert '<a href="#run-1">ccella</a>' in page
    assert 'id="run-1-measured"' in page
    assert "secret-marker" not in page
    assert str(study) not in page
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids)), "an anchor is duplicated"


def test_a_studys_paper_column_follows_the_table(study: Path) -> None:
    table = json.loads((study / "table.json").read_text())
    assert "paper 0.025" not in write_report(study).read_text()
    table["tables"][0]["rows"][0]["cells"]["fid_3d"]["paper_shown"] = True
    (study / "table.json").write_text(json.dumps(table))
    assert "paper 0.025" in write_report(study).read_text()


def test_a_study_shows_its_runs_side_by_side_where_they_share_cases(study: Path) -> None:
    assert "side-by-side" not in write_report(study).read_text(), "one run alone"
    write_run(study / "base", synthetic=2)
    page = write_report(study).read_text(encoding="utf-8")
    grid = page[page.index('id="side-by-side"') : page.index('class="chapter"')]
    rows = [row.partition("</th>") for row in grid.split("<tr>")[2:]]
    assert [re.sub("<.*?>", "", name) for name, _, _ in rows] == ["real", "ccella", "base"]
    # The two cases that both have; ccella's third has no place.
    assert [row.count("<img") for _, _, row in rows] == [2, 2, 2]
    assert '<a href="#run-2">base</a>' in grid
    assert "case-02" not in grid
