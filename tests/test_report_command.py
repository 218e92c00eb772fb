"""How a stage was called: recorded, deciding nothing, without sentences or, on a page, folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voxella.cli import main
from voxella.provenance import command_line, running
from voxella.report.section import command_shown
from voxella.workspace.record import StageRecord


def test_the_command_is_recorded_and_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "my data"
    words = ["import", "phantom", "--set", "cases=2", "--set", "size=[24, 24, 24]"]
    words += ["--set", "spacing_mm=[4, 4, 4]"]
    assert main([*words, "--out", str(out)]) == 0
    path = out / "stage.json"
    record = json.loads(path.read_text())
    assert record["command"] == (
        "voxella import phantom --set cases=2 --set 'size=[24, 24, 24]' "
        f"--set 'spacing_mm=[4, 4, 4]' --out '{out}'"
    )
    assert command_line() is None
    assert "command" not in record["inputs"]
    # Another way to say the same: up to date, and the record is that of who did the work.
    before = path.stat().st_mtime_ns
    monkeypatch.setattr("sys.argv", ["voxella", *words, "--out", str(out)])
    assert main() == 0
    assert path.stat().st_mtime_ns == before


def test_without_the_command_line_nothing_is_told(tmp_path: Path) -> None:
    path = StageRecord(tmp_path, "train", {"a": 1}).complete()
    assert "command" not in json.loads(path.read_text())
    with running(["train", "x.yaml"]):
        StageRecord(tmp_path, "train", {"a": 1}).complete()
        assert StageRecord(tmp_path, "train", {"a": 1}).is_current()
    assert json.loads(path.read_text())["command"] == "voxella train x.yaml"


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("description=Hypointense focus left, PI-RADS 4", "description=(left out)"),
        ("--set=description=Hypointense focus", "--set=description=(left out)"),
        ("description=" + "x" * 201, "description=(left out)"),
        ("description=first line\nsecond line", "description=(left out)"),
        ("sample.sweep={steps: [5, 10], guidance: [1, 2.5]}", None),
        ("data.classes=[negative, positive]", None),
        ("source=/data/some body/scans", None),
        ("optimizer.lr=1e-4", None),
        ("some folder/a recipe.yaml", None),
    ],
)
def test_a_sentence_is_left_out(word: str, kept: str | None) -> None:
    with running(["run", word, "--workers", "2"]):
        told = command_line()
    with running(["run", kept or word, "--workers", "2"]):
        assert told == command_line()
    assert told is not None
    assert "focus" not in told
    assert "second line" not in told


def test_a_page_shows_no_folder_of_a_command() -> None:
    command = (
        "voxella run /home/anna/recipes/ccella.yaml --out '../anna b/runs/demo' "
        r"--set 'data.dataset=C:\anna\set' --set optimizer.lr=1e-4 --workspace=/anna/w "
        "--set 'a={reports: /home/anna/r, b: [~/anna/x, 2]}'"
    )
    shown = command_shown(command)
    assert "anna" not in shown
    assert shown == (
        "voxella run .../ccella.yaml --out .../demo "
        "--set data.dataset=.../set --set optimizer.lr=1e-4 --workspace=.../w "
        "--set 'a={reports: .../r, b: [.../x, 2]}'"
    )
