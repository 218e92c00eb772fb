"""Faults at random points of a smoke run: a few here, many by `make faults`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shell import environment

SCRIPT = Path(__file__).with_name("reliability.py")


@pytest.mark.slow
def test_whatever_happens_the_same_command_goes_on_to_the_same_results(
    smoke_workspace: Path, tmp_path: Path
) -> None:
    """One fault of four kinds, up to the trained model."""
    base = tmp_path / "base"
    shutil.copytree(smoke_workspace, base, ignore=shutil.ignore_patterns("run"))
    command = [sys.executable, str(SCRIPT), "--base", str(base), "--last", "train"]
    done = subprocess.run(
        [*command, "--trials", "4", "--seed", "3", "--faults", "killed,file size,full,damaged"],
        env=environment(HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if " | " in line]
    counts = {row[0]: [int(number) for number in row[1:]] for row in rows[1:]}
    assert counts["killed"] == [1, 1, 1, 1, 1]
    for fault in ("file size", "damaged"):
        trials, _, told, went_on, same = counts[fault]
        assert (trials, told, went_on, same) == (1, 1, 1, 1)
    if "full" not in counts:
        assert "full: left out" in done.stdout  # a disk cannot be mounted here
