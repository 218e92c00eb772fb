"""Signals: a training saves what it has, in every process; workers end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest
from shell import environment
from tiny_run import REPOSITORY, encoded_run, tiny_recipe

from voxella.hashing import sha256_file
from voxella.ldm.train import train
from voxella.observers.dispatch import ObserverSet
from voxella.stopping import Interrupted, held_back, raised, requested

TESTS = Path(__file__).parent
RARE = "train.checkpoint_every=100000"


def wait(done: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_saves_the_step_and_the_same_call_continues_to_the_same_weights(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(RARE, "train.log_every=1")
    encoded_run(recipe, tmp_path / "whole")
    train(recipe, tmp_path / "whole")
    encoded_run(recipe, tmp_path / "run")

    def step_end(self: ObserverSet, step: int, scalars: Mapping[str, float]) -> None:
        if step == 3:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patched:
        patched.setattr(ObserverSet, "step_end", step_end)
        before = signal.getsignal(number)
        with pytest.raises(Interrupted) as caught:
            train(recipe, tmp_path / "run")
        assert signal.getsignal(number) == before
    kept = tmp_path / "run" / "checkpoints" / "step-00000003"
    assert (caught.value.number, caught.value.kept) == (number, str(kept))
    assert (kept / "complete.json").is_file()
    train(recipe, tmp_path / "run")
    one, two = (tmp_path / run / "model" / "model.safetensors" for run in ("whole", "run"))
    assert sha256_file(one) == sha256_file(two)


def command(workspace: Path, run: Path, *more: str) -> list[str]:
    sets = [word for setting in (RARE, *more) for word in ("--set", setting)]
    recipe = str(REPOSITORY / "recipes" / "ccella.yaml")
    options = ["--profile", "smoke", "--workspace", str(workspace), "--out", str(run), *sets]
    return [sys.executable, "-m", "voxella", "train", recipe, *options]


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_every_process_stops_where_one_is_told_to(
    world: int, smoke_workspace: Path, tmp_path: Path
) -> None:
    more = ("train.steps=100000", "train.log_every=1", "deepspeed.zero_optimization.stage=1")
    jobs = [
        subprocess.Popen(
            command(smoke_workspace, tmp_path, *more),
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    log = tmp_path / "train" / "log.jsonl"
    try:
        wait(lambda: log.is_file() and len(log.read_text().splitlines()) > 2)
        jobs[-1].send_signal(signal.SIGTERM)
        said = [job.communicate(timeout=60)[1] for job in jobs]
    finally:
        for job in jobs:
            job.kill()
    assert [job.returncode for job in jobs] == [128 + signal.SIGTERM] * world
    (kept,) = (tmp_path / "checkpoints").iterdir()
    steps = len(log.read_text().splitlines())
    assert kept.name == f"step-{steps:08d}"
    # One process shards nothing: its state is whole.
    assert len(list(kept.glob("zero_pp_rank_*"))) == (world if world > 1 else 0)
    assert (kept / "complete.json").is_file()
    assert f"voxella: interrupted; the same command continues from {kept}" in said[0]
    for text in said[1:]:
        assert "voxella:" not in text
    assert "Traceback" not in "".join(said)
    assert "rank" not in said[0]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143), (signal.SIGINT, 130)],
)
def test_workers_end_with_their_parent(number: signal.Signals, code: int) -> None:
    job = subprocess.Popen(
        [sys.executable, "pool_driver.py"],
        env=environment(),
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    parent = psutil.Process(job.pid)
    workers: list[psutil.Process] = []

    def started() -> bool:
        workers[:] = [p for p in parent.children() if "spawn_main" in " ".join(p.cmdline())]
        return len(workers) == 3 and all(p.num_threads() > 1 for p in workers)

    try:
        wait(started)
        if number == signal.SIGINT:
            os.killpg(job.pid, number)  # as a terminal does
        else:
            job.send_signal(number)
        said, _ = job.communicate(timeout=30)
        assert not psutil.wait_procs(workers, timeout=30)[1]
    finally:
        for process in (*workers, parent):
            if process.is_running():
                process.kill()
    assert job.returncode == code
    assert "Traceback" not in said


def test_ctrl_c_stops_at_once_when_it_is_pressed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    @held_back()
    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert requested() == signal.SIGINT
        # The launcher passes the same press on, by another signal.
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 3.0
        os.kill(os.getpid(), signal.SIGTERM)  # a launcher's patience ends of itself
        assert requested() == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it went on")

    with pytest.raises(Interrupted) as caught:
        press()
    assert caught.value.number == signal.SIGINT


def test_a_signal_that_nobody_has_asked_for_yet_is_not_lost() -> None:
    with pytest.raises(Interrupted), held_back():
        os.kill(os.getpid(), signal.SIGTERM)


def test_what_nohup_has_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raised():
            os.kill(os.getpid(), signal.SIGHUP)
        with held_back():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
