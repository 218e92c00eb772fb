"""What the command line says beside results: once a job, with a remedy, before long silences."""

from __future__ import annotations

import csv
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shell import environment
from test_cli import CCELLA, SMOKE, _keep_signals, refused
from tiny_run import REPOSITORY, tiny_recipe

from voxella.case import Case, Manifest
from voxella.check.training import check_training_labels, check_training_reports
from voxella.cli import main
from voxella.data.reports import read_reports
from voxella.errors import UserError
from voxella.imaging.volume import write_volume
from voxella.ldm.build import build_model

__all__ = ["_keep_signals"]  # a fixture of the command line's tests

NOWHERE = ("recipe", "show", "nowhere.yaml")
# The command line with its stages out of the way: nothing but itself loads anything.
BARE = """
import sys, types
from voxella.errors import UserError
def run_stages(*given, **options):
    raise UserError("torch is loaded" if "torch" in sys.modules else "far enough")
sys.modules["voxella.pipeline.run"] = types.SimpleNamespace(run_stages=run_stages)
from voxella.cli import main
{more}
sys.exit(main(sys.argv[1:]))
"""
ENDED = """
import os, signal, time
sleep = time.sleep
def ended_while_waiting(seconds):
    os.kill(os.getpid(), signal.SIGTERM)
    sleep(60)
time.sleep = ended_while_waiting
"""


def bare(*words: str, more: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BARE.format(more=more), *words],
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_command_says_that_it_loads_libraries_before_it_does() -> None:
    done = bare("train", CCELLA, *SMOKE)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("voxella train: loading torch")
    assert second == "voxella: far enough"
    assert done.stdout == ""


def test_a_mistake_of_every_process_is_told_by_the_first() -> None:
    """The launcher ends the others once the first has ended: they say nothing then."""
    done = bare("train", CCELLA, *SMOKE, more=ENDED, RANK="1", WORLD_SIZE="2")
    assert (done.returncode, done.stderr, done.stdout) == (2, "", "")


def test_a_mistake_of_one_process_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said = refused(capfd, *NOWHERE)
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setenv("RANK", "3")
    assert refused(capfd, *NOWHERE) == said.replace("voxella: ", "voxella: process 3: ")
    assert waited == [10.0]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "ls -ld"),
        (errno.EROFS, "another --out"),
        (errno.ENOSPC, "the same command continues"),
        (errno.ENOTDIR, "a file stands where a folder belongs"),
    ],
)
def test_what_the_file_system_refuses_has_a_remedy(
    number: int,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refuses(*given: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / ".partial-x1.json"))

    monkeypatch.setattr("voxella.pipeline.run.run_stages", refuses)
    said = refused(capfd, "prepare", CCELLA, *SMOKE)
    # The folder, not the temporary name in it, which nobody knows.
    much = r" \(its disk has [\d.]+ .?B of [\d.]+ .?B free\)" if number == errno.ENOSPC else ""
    told = re.escape(f"{os.strerror(number)}: {tmp_path}")
    assert re.search(rf"{told}{much}\n  next:", said)
    assert remedy in said
    assert "another --out" in said


def test_a_fault_of_ours_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object, **options: object) -> None:
        raise OSError(errno.EBADF, "bad descriptor")

    monkeypatch.setattr("voxella.pipeline.run.run_stages", fails)
    with pytest.raises(OSError, match="bad descriptor"):
        main(["prepare", CCELLA, *SMOKE])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    said = refused(capfd, "import", "phantom", "--out", str(tmp_path / "a"), "--set", "cases=2")
    assert f"Permission denied: {tmp_path}" in said


def test_each_data_set_has_run_folders_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []

    def stages(recipe: object, run: Path, **options: object) -> None:
        runs.append(str(run))
        raise UserError("far enough")

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("voxella.pipeline.run.run_stages", stages)
    for more in ([], ["--dataset", "data/B/"], ["--set", "data.dataset=/A"], ["--dataset", "."]):
        main(["run", CCELLA, *SMOKE, *more])
    main(["run", CCELLA, *SMOKE, "--dataset", "B", "--out", "mine"])
    expected = ["", "-B", "-A", "-here"]
    assert runs == [*(f"runs/ccella-smoke{name}" for name in expected), "mine"]


def data_set(folder: Path, *labels: str | None) -> Manifest:
    images = {"t2w": "none.nii.gz"}
    cases = [Case(id=f"c{n}", group="p", images=images, label=x) for n, x in enumerate(labels)]
    held_out = Case(id="v", group="v", images=images, label="positive", split="val")
    manifest = Manifest(folder, [*cases, held_out])
    manifest.write()
    return manifest


def test_a_class_is_not_learnt_from_cases_without_any(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data_set(tmp_path / "data", None, None)
    given = ("--dataset", str(tmp_path / "data"), "--out", str(tmp_path / "run"))
    said = refused(capfd, "train", CCELLA, *SMOKE, *given)
    assert "none of the 2 training cases" in said
    assert "recipes/ellabase.yaml (reports), recipes/base.yaml" in said
    assert not (tmp_path / "run").exists()
    # Preparing and encoding ask for no label.
    assert "cannot be prepared" in refused(capfd, "encode", CCELLA, *SMOKE, *given)


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("ccella", "take no part in the class loss"),
        ("radbase", "are shown as of no class"),
        ("decoupled", "are shown as of no class"),
        ("l1only", None),
        ("ellabase", None),
        ("base", None),
    ],
)
def test_which_recipes_need_labels(
    name: str, effect: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(name=name)
    needs = build_model(recipe).needs
    none, some = data_set(tmp_path, None, None), data_set(tmp_path, None, "negative", None)
    every = data_set(tmp_path, "negative", "positive")
    check_training_labels(recipe.loss, every, needs, name=name)
    assert capsys.readouterr().out == ""
    check_training_labels(recipe.loss, some, needs, name=name)
    if effect is None:
        check_training_labels(recipe.loss, none, needs, name=name)
        assert capsys.readouterr().out == ""
        return
    said = capsys.readouterr().out
    assert said == f"warning: 2 of 3 training cases have no label and {effect}: c0, c2\n"
    with pytest.raises(UserError, match="none of the 2 training cases"):
        check_training_labels(recipe.loss, none, needs, name=name)


def with_reports(folder: Path, *reports: str | None) -> Manifest:
    """Labelled training cases; None: without a report."""
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    cases = []
    for number, text in enumerate(reports):
        report = None if text is None else f"reports/c{number}.txt"
        texts = {} if report is None else {"report": report}
        for path in texts.values():
            (folder / path).write_text(text or "")
        images = {"t2w": "none.nii.gz"}
        cases.append(Case(id=f"c{number}", group="p", images=images, label="positive", texts=texts))
    manifest = Manifest(folder, cases)
    manifest.write()
    return manifest


def test_reports_are_not_learnt_from_cases_without_any(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with_reports(tmp_path / "data", None, None)
    given = ("--dataset", str(tmp_path / "data"), "--out", str(tmp_path / "run"))
    said = refused(capfd, "run", CCELLA, *SMOKE, *given)
    assert "none of the 2 training cases" in said
    assert "learns from reports" in said
    assert "recipes/radbase.yaml (labels), recipes/base.yaml" in said
    assert not (tmp_path / "run").exists()
    # Of a recipe that reads none, nothing is asked.
    radbase = str(REPOSITORY / "recipes" / "radbase.yaml")
    assert "cannot be prepared" in refused(capfd, "run", radbase, *SMOKE, *given)


def test_cases_without_a_report_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = with_reports(tmp_path, "a text", None, "  ")
    check_training_reports(tiny_recipe(name="base").text, some, name="base")
    assert capsys.readouterr().out == ""
    text = tiny_recipe().text
    check_training_reports(text, some, name="ccella")
    told = "training cases have no report and are shown with the empty one"
    assert capsys.readouterr().out == f"warning: 1 of 3 {told}: c1\n"
    check_training_reports(text, some, read_reports(some), name="ccella")
    assert capsys.readouterr().out == f"warning: 2 of 3 {told}: c1, c2\n"
    blank = with_reports(tmp_path, " ", "\n")
    with pytest.raises(UserError, match="none of the 2 training cases"):
        check_training_reports(text, blank, read_reports(blank), name="ccella")


@pytest.mark.parametrize(
    ("columns", "recipe"),
    [
        ({"label": "positive", "report": "a text"}, "ccella"),
        ({"report": "a text"}, "ellabase"),
        ({"label": "positive"}, "radbase"),
        ({}, "base"),
    ],
)
def test_an_import_names_a_recipe_that_its_cases_can_train(
    columns: dict[str, str], recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volume(tmp_path / "a.nii.gz", np.ones((4, 4, 4)), np.eye(4))
    row = {"id": "a", "t2w": str(tmp_path / "a.nii.gz"), **columns}
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    alone = ("--set", "val_share=0", "--set", "test_share=0")
    assert (
        main(["import", "table", str(tmp_path / "t.csv"), "--out", str(tmp_path / "d"), *alone])
        == 0
    )
    assert f"then: voxella run recipes/{recipe}.yaml --profile" in capsys.readouterr().out
