"""Two commands never work in one folder; what a dead one has left does not keep the next out."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shell import environment

from voxella import files
from voxella.cli import main
from voxella.errors import UserError
from voxella.process import ProcessMark
from voxella.workspace import lock
from voxella.workspace.lock import LOCK, holding

HOLDER = """
import sys, time
from pathlib import Path
from voxella.provenance import running
from voxella.workspace.lock import holding
with running(["run", "recipes/ccella.yaml"]), holding(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a folder."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def left(folder: Path, **changed: Any) -> Path:
    """A lock file that nobody has locked."""
    facts = {"pid": 7, "host": "node1", "since": "2026-01-01 10:00:00", "command": "voxella run r"}
    path = folder / LOCK
    path.write_text(json.dumps(facts | changed))
    return path


def test_the_second_refuses_and_names_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    with holder(tmp_path / "run") as first:
        base = ["prepare", "recipes/base.yaml", "--profile", "smoke", "--workers", "1"]
        for words in (
            [*base, "--out", str(tmp_path / "run")],
            [*base, "--out", str(tmp_path / "other"), "--workspace", str(tmp_path / "run")],
            ["import", "phantom", "--out", str(tmp_path / "run"), "--set", "cases=2"],
        ):
            assert main(words) == 2
            said = capfd.readouterr().err
            assert f"{tmp_path / 'run'} is in use by process {first.pid} on " in said
            assert "voxella run recipes/ccella.yaml" in said
            assert f"rm {tmp_path / 'run' / LOCK}" in said
            assert "Traceback" not in said
        assert not (tmp_path / "other").exists()
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]


def test_it_is_free_as_soon_as_the_first_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert (tmp_path / LOCK).is_file()
        with holding(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_what_the_first_left_half_written_is_swept(tmp_path: Path) -> None:
    gone = replace(ProcessMark.own(), started=1)
    (tmp_path / "deep" / f".partial-{gone}.x").mkdir(parents=True)
    with holding(tmp_path):
        assert list((tmp_path / "deep").iterdir()) == []


def test_a_study_holds_what_its_recipes_ask_for_again(tmp_path: Path) -> None:
    with holding(tmp_path), holding(tmp_path, tmp_path / "a"):
        assert (tmp_path / LOCK).is_file()
    assert list(tmp_path.iterdir()) == []


def test_the_processes_of_one_job_share_the_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holder(tmp_path):
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        with holding(tmp_path):
            pass
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(UserError, match="in use by process"), holding(tmp_path):
            pass


def elsewhere() -> str:
    return str(replace(ProcessMark.own(), space="12345678"))


@pytest.mark.parametrize(
    ("local", "age_seconds", "free"),
    [
        # A lock is everybody's on a disk of this machine: its holder was another container's.
        (True, 0, True),
        # Over a network it may be this host's alone: then the file's age decides.
        (False, 0, False),
        (False, 300, True),
    ],
)
def test_another_hosts_lock(
    local: bool, age_seconds: int, free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left(tmp_path, process=elsewhere())
    then = time.time() - age_seconds
    os.utime(path, (then, then))
    monkeypatch.setattr(lock, "_is_local", lambda handle: local)
    if free:
        with holding(tmp_path):
            pass
        return
    with (
        pytest.raises(UserError, match=r"process 7 on node1, since 2026-01-01 10:00:00: voxella"),
        holding(tmp_path),
    ):
        pass
    # To look has not made it younger.
    assert path.stat().st_mtime == pytest.approx(then, abs=0.01)


@pytest.mark.parametrize("runs", [True, False])
def test_where_there_are_no_locks_the_content_decides(
    runs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(handle: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refused)
    own = ProcessMark.own()
    parent = replace(own, pid=os.getppid(), started=0)
    left(tmp_path, process=str(parent if runs else replace(own, started=1)))
    if runs:
        with pytest.raises(UserError, match="in use"), holding(tmp_path):
            pass
    else:
        with holding(tmp_path):
            pass


@pytest.mark.parametrize("content", ["", "[]", "{", "\0\0", '{"process": 3}', "null"])
def test_a_lock_file_that_says_nothing_keeps_nobody_out(content: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(content)
    with holding(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_made_for_nothing_is_not_left(tmp_path: Path) -> None:
    with pytest.raises(UserError), holding(tmp_path / "new"):
        raise UserError("refused")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_its_maker_takes_away_in_between_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to work in a folder removes it on leaving, where nothing came to be in it."""
    calls = []

    def made_and_gone(folder: Path) -> None:
        files.make_folder(folder)
        calls.append(folder)
        if len(calls) == 1:
            folder.rmdir()

    monkeypatch.setattr(lock, "make_folder", made_and_gone)
    with holding(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").is_file()
    assert len(calls) == 2


def test_many_at_once_are_one_at_a_time(tmp_path: Path) -> None:
    """Eight processes each count one up, read and write apart, where they are let in."""
    code = """
import sys, time
from pathlib import Path
from voxella.errors import UserError
from voxella.workspace.lock import holding
counter = Path(sys.argv[1]).parent / "count"
for _ in range(15):
    try:
        with holding(Path(sys.argv[1])):
            before = int(counter.read_text())
            time.sleep(0.005)
            counter.write_text(str(before + 1))
            print("in")
    except UserError:
        pass
"""
    (tmp_path / "count").write_text("0")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "run")],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    told = [process.communicate(timeout=100)[0].count("in\n") for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert int((tmp_path / "count").read_text()) == sum(told) > 0
