"""The order in which files reach the disk, as the operating system is asked for it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from voxella.files import atomic_path, publish_folder, sweep
from voxella.process import ProcessMark


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Return what is synced and renamed, in order, by paths below the test's folder."""
    told: list[str] = []
    paths: dict[int, str] = {}
    fsync, rename, replace, opened = os.fsync, os.rename, os.replace, os.open

    def short(path: object) -> str:
        shown = Path(os.fspath(path)).relative_to(tmp_path)  # type: ignore[call-overload]
        return "/".join("PARTIAL" if p.startswith(".partial-") else p for p in shown.parts) or "."

    def open_(path: object, *arguments: object, **named: object) -> int:
        handle = opened(path, *arguments, **named)  # type: ignore[arg-type]
        if str(path).startswith(str(tmp_path)):
            paths[handle] = short(path)
        return handle

    def sync(handle: int) -> None:
        told.append(f"sync {paths[handle]}")
        fsync(handle)

    def move(then: object) -> object:
        def moved(source: object, target: object, **named: object) -> None:
            told.append(f"rename {short(source)} to {short(target)}")
            then(source, target, **named)  # type: ignore[operator]

        return moved

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", move(rename))
    monkeypatch.setattr(os, "replace", move(replace))
    return told


def test_a_file_is_synced_before_its_name_and_the_name_before_the_caller_goes_on(
    tmp_path: Path, calls: list[str]
) -> None:
    with atomic_path(tmp_path / "facts.json") as temporary:
        temporary.write_text("{}")
    assert calls == ["sync PARTIAL/facts.json", "rename PARTIAL/facts.json to facts.json", "sync ."]


def test_a_folder_is_on_the_disk_before_its_marker_and_the_marker_before_its_name(
    tmp_path: Path, calls: list[str]
) -> None:
    partial = tmp_path / ".partial-step"
    (partial / "deep").mkdir(parents=True)
    for name in ("weights.pt", "deep/state.pt"):
        (partial / name).write_bytes(b"weights")
    publish_folder(partial, tmp_path / "step", marker="complete.json", facts={"step": 1})
    assert calls == [
        "sync PARTIAL/deep/state.pt",
        "sync PARTIAL/weights.pt",
        "sync PARTIAL/deep",
        "sync PARTIAL",
        "sync PARTIAL/PARTIAL/complete.json",
        "rename PARTIAL/PARTIAL/complete.json to PARTIAL/complete.json",
        "sync PARTIAL",
        "rename PARTIAL to step",
        "sync .",
    ]
    assert (tmp_path / "step" / "complete.json").read_text() == '{\n  "step": 1\n}\n'


def test_what_stood_under_the_folders_name_is_replaced(tmp_path: Path) -> None:
    for name in (".partial-step", "step"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of{name}").touch()
    publish_folder(tmp_path / ".partial-step", tmp_path / "step", marker="m.json", facts=1)
    assert sorted(path.name for path in (tmp_path / "step").iterdir()) == [
        "m.json",
        "of.partial-step",
    ]


def dead() -> ProcessMark:
    """The mark of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return replace(ProcessMark.own(), pid=child.pid, started=1)


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "deep").mkdir()
    for folder in (tmp_path, tmp_path / "deep"):
        left = folder / f".partial-{dead()}.x1"
        left.mkdir()
        # safetensors writes under a name of its own before it renames.
        (left / ".tmpAbC123").write_bytes(b"half")
    with atomic_path(tmp_path / "deep" / "now.json") as temporary:
        temporary.write_text("{}")
        assert sweep(tmp_path) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "now.json"]


def test_another_machines_file_is_swept_when_it_has_not_changed_for_long(tmp_path: Path) -> None:
    elsewhere = replace(ProcessMark.own(), space="12345678")
    for name in ("fresh", "old"):
        half = tmp_path / f".partial-{elsewhere}.{name}" / "a.json"
        half.parent.mkdir()
        half.write_text("half")
        if name == "old":
            os.utime(half, (0, 0))
            os.utime(half.parent, (0, 0))
    assert sweep(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f".partial-{elsewhere}.fresh"]


def test_a_number_that_was_given_again_is_another_process() -> None:
    own = ProcessMark.own()
    assert ProcessMark.parse(str(own)) == own
    assert own.is_gone() is False
    assert dead().is_gone() is True
    assert replace(own, started=own.started + 1).is_gone() is (own.started != 0)
    assert replace(own, space="12345678").is_gone() is None
    assert ProcessMark.parse("step-00000002") is None
