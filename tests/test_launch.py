"""The three ways to launch, on 1 and 2 CPU processes, and what happens when a process dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from shell import environment
from tiny_run import REPOSITORY

RECIPE = str(REPOSITORY / "recipes" / "ccella.yaml")

pytestmark = pytest.mark.slow


def words(way: str, world: int, workspace: Path, run: Path, *more: str) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launcher = ["deepspeed", "--num_gpus", str(world), "--master_port", port]
    options = ["--profile", "smoke", "--workspace", str(workspace), "--out", str(run), *more]
    return {
        "voxella": ["voxella", "train", RECIPE, *options],
        "module": [*launcher, "--module", "voxella", RECIPE, *options],
        "no_python": [*launcher, "--no_python", RECIPE, *options],
    }[way]


def losses(run: Path) -> list[float]:
    lines = (run / "train" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss/total"] for line in lines]


@pytest.fixture(scope="module")
def alone(smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ``voxella train``, which the others must equal."""
    run = tmp_path_factory.mktemp("alone")
    subprocess.run(
        words("voxella", 1, smoke_workspace, run), env=environment(), check=True, timeout=240
    )
    return run


@pytest.mark.parametrize("way", ["module", "no_python"])
@pytest.mark.parametrize("world", [1, 2])
def test_launchers_train_the_same_model(
    way: str, world: int, smoke_workspace: Path, alone: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        words(way, world, smoke_workspace, tmp_path),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-5)
    assert (tmp_path / "model" / "config.json").is_file()
    assert "train  finished after step 2/2" in done.stderr


def test_a_dead_process_ends_the_job_and_the_same_command_continues(
    smoke_workspace: Path, tmp_path: Path
) -> None:
    # Long enough to be killed in the middle, with a checkpoint behind it.
    more = ["--set", "train.steps=4000", "--set", "train.checkpoint_every=5"]
    command = words("module", 2, smoke_workspace, tmp_path, *more)
    log = tmp_path / "output.txt"
    with log.open("w") as output:
        job = subprocess.Popen(
            command,
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(lambda: any((tmp_path / "checkpoints").glob("step-*/complete.json")), 180)
            _rank(job.pid, 1).kill()
            killed = time.monotonic()
            assert job.wait(timeout=60) != 0
            assert time.monotonic() - killed < 60
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
    said = log.read_text()
    assert "voxella:" in said
    assert "continues from the newest complete checkpoint" in said
    assert "Traceback" not in said


def test_a_mistake_under_the_launcher_is_one_message(smoke_workspace: Path, tmp_path: Path) -> None:
    more = ["--set", "deepspeed.train_batch_size=3"]
    done = subprocess.run(
        words("module", 2, smoke_workspace, tmp_path, *more),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert said.count("train_batch_size 3 does not divide among 2 processes") == 1
    assert "Traceback" not in said


def _rank(launcher: int, rank: int) -> psutil.Process:
    for child in psutil.Process(launcher).children(recursive=True):
        if child.environ().get("RANK") == str(rank) and "voxella" in child.cmdline():
            return child
    raise AssertionError("the rank's process was not found")


def _wait(done: object, seconds: float) -> None:
    assert callable(done)
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)
