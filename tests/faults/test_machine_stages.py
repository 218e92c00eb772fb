"""What the machine refuses ends a stage with one message, and is never judged as a bad case."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dying_job import KilledJob
from numpy.typing import NDArray
from tiny_prepare import recipe

from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.imaging.volume import read_image, write_volume
from voxella.imaging.write import write_image
from voxella.preparation import cases as prepare_cases
from voxella.preparation.stage import prepare
from voxella.recipe.model import Prepare

FAULTS: dict[str, Callable[[], Exception]] = {
    **{
        name: lambda number=number: OSError(number, os.strerror(number))  # type: ignore[misc]
        for name, number in (
            ("full", errno.ENOSPC),
            ("quota", errno.EDQUOT),
            ("read-only", errno.EROFS),
            ("failing", errno.EIO),
            ("files", errno.EMFILE),
            ("all-files", errno.ENFILE),
            ("memory", errno.ENOMEM),
        )
    },
    "python": lambda: MemoryError(),
    "torch": lambda: RuntimeError("DefaultCPUAllocator: Error code 12 (Cannot allocate memory)"),
}


def data_set(folder: Path, count: int = 6, size: tuple[int, int, int] = (12, 11, 5)) -> Path:
    """Volumes of noise."""
    cases = []
    for number in range(count):
        image = f"images/{number}.nii.gz"
        array = np.random.default_rng(number).random(size) * 100
        write_volume(folder / image, array, np.diag([1.0, 1.0, 3.0, 1.0]))
        cases.append(Case(id=f"c{number}", group=f"p{number}", images={"t2w": image}))
    Manifest(folder, cases).write()
    return folder


def ids(manifest: Manifest) -> list[str]:
    return [case.id for case in manifest]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["write_image", "read_image"])
def test_no_patient_is_left_out_because_of_the_machine(
    where: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out, calls = data_set(tmp_path / "raw"), tmp_path / "prepared", 0
    whole = {"write_image": write_image, "read_image": read_image}[where]

    def refused(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise FAULTS[fault]()
        return whole(*given)  # type: ignore[operator]

    monkeypatch.setattr(prepare_cases, where, refused)
    with pytest.raises(OSError, match=r"\[Errno \d+\]"):
        prepare(recipe(), source, out, workers=1, quarantine=True)
    assert not (out / "quarantine.json").exists()
    assert not (out / "manifest.jsonl").exists()
    assert ids(prepare(recipe(), source, out, workers=1, quarantine=True)) == ids(
        Manifest.read(source)
    )
    assert json.loads((out / "stage.json").read_text())["facts"]["quarantined"] == 0


def test_a_disk_that_fills_up_stops_the_stage_and_the_same_call_goes_on(
    small_disk: Path, tmp_path: Path
) -> None:
    """In processes beside each other, with the real thing."""
    source = data_set(tmp_path / "raw", 10, (40, 40, 16))
    settings = recipe(size=[32, 32, 16], crop_mm=[32.0, 32.0, None])
    with pytest.raises(OSError, match="No space left on device") as caught:
        prepare(settings, source, small_disk / "prepared", workers=2, quarantine=True)
    assert caught.value.filename.startswith(str(small_disk / "prepared"))
    done = list((small_disk / "prepared" / "cases").glob("*.json"))
    assert 0 < len(done) < 10
    assert not list(small_disk.rglob("quarantine.json"))
    # Elsewhere there is room: what was done is taken along.
    shutil.copytree(small_disk / "prepared", tmp_path / "prepared")
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "prepared/cases").iterdir()}
    made = prepare(settings, source, tmp_path / "prepared", workers=1, quarantine=True)
    assert len(made) == 10
    now = {name: (tmp_path / "prepared/cases" / name).stat().st_mtime_ns for name in kept}
    assert now == kept


def test_a_process_killed_for_memory_is_no_bad_case(tmp_path: Path) -> None:
    names = ["a", "b-killed", "c"]
    jobs = [KilledJob(name, {}, None, Prepare(), tmp_path, "", "") for name in names]
    with pytest.raises(UserError, match=r"case b-killed was killed .*memory"):
        prepare_cases.run_jobs(jobs, workers=2)


def test_a_process_that_dies_before_its_parent_goes_on_was_killed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine it may be dead, and joined, before the one that started it looks."""
    submit = ProcessPoolExecutor.submit

    def slow(pool: ProcessPoolExecutor, *call: Any) -> Future[Any]:
        future: Future[Any] = submit(pool, *call)
        wait([future])
        while active_children():
            time.sleep(0.01)
        return future

    monkeypatch.setattr(ProcessPoolExecutor, "submit", slow)
    job = KilledJob("b-killed", {}, None, Prepare(), tmp_path, "", "")
    with pytest.raises(UserError, match=r"case b-killed was killed .*memory"):
        prepare_cases.run_jobs([job, job], workers=2)


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_one_message_and_exit_code_2(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source = data_set(tmp_path / "raw", 2)

    def refused(path: Path, array: NDArray[Any], affine: NDArray[Any]) -> Path:
        raise FAULTS[fault]()

    monkeypatch.setattr(prepare_cases, "write_image", refused)
    words = ["prepare", "recipes/base.yaml", "--profile", "smoke", "--workers", "1"]
    words += ["--dataset", str(source), "--out", str(tmp_path / "run"), "--quarantine"]
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(words) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert said.count("\n") == 2
    assert "next:     " in said


def test_a_full_disk_behind_the_standard_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["plugins", "--json"]) == 2
    assert "No space left on device" in capfd.readouterr().err
