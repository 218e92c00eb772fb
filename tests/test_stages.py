"""Stages are declared once: each has its work, its verb, its folder of results."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import tiny_recipe

from voxella.cli import main
from voxella.errors import UserError
from voxella.pipeline import steps
from voxella.pipeline.run import run_stages, summarise
from voxella.pipeline.stages import RUN, STAGES, Stage, stage_names
from voxella.workspace.folders import Folders


def test_each_stage_has_its_work_and_no_work_is_without_a_stage() -> None:
    work = {name for name in vars(steps) if name.startswith("do_")}
    assert work == {f"do_{name.replace('-', '_')}" for name in stage_names()}
    assert set(steps.__all__) == {"Job", *work}


@pytest.mark.parametrize("stage", STAGES, ids=stage_names())
def test_the_command_line_says_what_a_stage_is_for(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    name, about = stage.name, stage.about
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert " ".join(about.split()) in " ".join(capsys.readouterr().out.split())


def test_run_names_all_stages_in_their_order() -> None:
    assert stage_names() == [
        *("import", "prepare", "train-autoencoder", "check-autoencoder", "encode"),
        *("train", "sample", "evaluate", "classify"),
    ]
    places = [RUN.index(name) for name in ("import", "prepare", "encode", "sample", "classify")]
    assert places == sorted(places)
    with pytest.raises(UserError, match="there is no stage 'teach'") as refusal:
        run_stages(tiny_recipe(), Path("nowhere"), until="teach")
    assert "expected: import, prepare, " in str(refusal.value)


def test_the_summary_names_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = Folders.of(tmp_path, None, None)
    places = [place(folders) for stage in STAGES for _, place in stage.results]
    assert len(places) == len(set(places)) == 12
    for path in (folders.dataset / "manifest.jsonl", folders.model / "config.json"):
        path.parent.mkdir(parents=True)
        path.touch()
    summarise(folders, "train")
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert told == [
        ["done:", "train"],
        ["data", "set", str(folders.dataset / "manifest.jsonl")],
        ["model", str(folders.model / "config.json")],
    ]
