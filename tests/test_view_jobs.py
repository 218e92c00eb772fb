"""The queue behind the page: one at a time, cancelled at a step, bounded in number and memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import voxella.view.jobs as jobs_module
from voxella.errors import UserError
from voxella.sampling.synthetic_image import SyntheticImage
from voxella.view.answers import Refused
from voxella.view.jobs import Asked, Job, Jobs

ASKED = Asked("words of a report", None, {}, seed=0, steps=3, guidance=1.0, count=1)
Step = Callable[[int, int], None]


def image(megabytes: int = 0) -> SyntheticImage:
    array = np.zeros((1, 1, 1, max(1, megabytes * 2**18)), np.float32)
    return SyntheticImage("a", array, np.eye(4), {"t2w": slice(0, 1)}, None, {})


class Model:
    """Takes a step whenever it is let; tells how many work at once."""

    def __init__(self) -> None:
        self.let = threading.Semaphore(0)
        self.working = self.most = 0
        self.fault: Exception | None = None
        self.megabytes = 0

    def make(self, asked: Asked, on_step: Step) -> list[SyntheticImage]:
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            if self.fault is not None:
                raise self.fault
            for step in range(asked.steps):
                assert self.let.acquire(timeout=10)
                on_step(step + 1, asked.steps)
            return [image(self.megabytes)] * asked.count
        finally:
            self.working -= 1

    def all_steps(self) -> None:
        for _ in range(1000):
            self.let.release()


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def jobs(model: Model) -> Iterator[Jobs]:
    queue = Jobs(model.make)
    yield queue
    queue.end()
    model.all_steps()


def wait(job: Job, state: str = "") -> Job:
    until = time.monotonic() + 10
    while not (job.state == state if state else job.is_over):
        assert time.monotonic() < until, job.state
        time.sleep(0.005)
    return job


def test_a_job_runs_through_its_steps(jobs: Jobs, model: Model) -> None:
    job = jobs.add(ASKED)
    wait(job, "running")
    assert job.seconds_left() is None
    for _ in range(2):
        model.let.release()
    until = time.monotonic() + 10
    while job.steps != (2, 3) and time.monotonic() < until:
        time.sleep(0.005)
    assert job.steps == (2, 3)
    left = job.seconds_left()
    assert left is not None
    assert 0 <= left < 10
    model.let.release()
    assert wait(job).state == "done"
    assert len(job.images) == 1
    assert job.seconds_left() is None


def test_a_second_waits_its_turn_and_never_two_work_at_once(jobs: Jobs, model: Model) -> None:
    first, second, third = (jobs.add(ASKED) for _ in range(3))
    wait(first, "running")
    assert (second.state, jobs.ahead_of(second), jobs.ahead_of(third)) == ("waiting", 1, 2)
    model.all_steps()
    assert [wait(job).state for job in (first, second, third)] == ["done"] * 3
    assert model.most == 1


def test_what_runs_is_cancelled_at_its_next_step_and_the_next_begins(
    jobs: Jobs, model: Model
) -> None:
    first, second = jobs.add(ASKED), jobs.add(ASKED)
    wait(first, "running")
    jobs.cancel(first)
    model.let.release()
    assert wait(first).state == "cancelled"
    assert first.images == []
    model.all_steps()
    assert wait(second).state == "done"


def test_what_waits_is_cancelled_before_it_begins(jobs: Jobs, model: Model) -> None:
    first, second = jobs.add(ASKED), jobs.add(ASKED)
    wait(first, "running")
    jobs.cancel(second)
    assert second.state == "cancelled"
    model.all_steps()
    wait(first)
    assert second.steps == (0, 0)


def test_the_queue_is_short(jobs: Jobs) -> None:
    wait(jobs.add(ASKED), "running")
    for _ in range(8):
        jobs.add(ASKED)
    with pytest.raises(Refused, match="8 requests are waiting already"):
        jobs.add(ASKED)
    jobs.cancel(jobs.get(5))
    jobs.add(ASKED)  # a place is free again


def test_failures_are_sentences_without_what_was_typed(
    jobs: Jobs, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model.fault = ValueError("words of a report")
    failed = wait(jobs.add(ASKED))
    assert (failed.state, failed.problem) == ("failed", "The generation failed (ValueError).")
    model.fault = UserError("label is none of a, b")
    assert wait(jobs.add(ASKED)).problem == "label is none of a, b"
    model.fault = MemoryError()
    assert "memory" in wait(jobs.add(ASKED)).problem
    assert "words" not in "".join(capsys.readouterr())
    assert "words" not in repr(failed)
    model.fault = None
    model.all_steps()
    assert wait(jobs.add(ASKED)).state == "done"


def test_memory_is_bounded_and_the_newest_stays(
    jobs: Jobs, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_KEPT_BYTES", 5 * 2**20)
    model.megabytes = 2
    model.all_steps()
    made = [wait(jobs.add(ASKED)) for _ in range(4)]
    until = time.monotonic() + 5  # forgetting follows the job's end
    while made[1].images and time.monotonic() < until:
        time.sleep(0.005)
    assert [len(job.images) for job in made] == [0, 0, 1, 1]
    model.megabytes = 9
    large = wait(jobs.add(ASKED))
    until = time.monotonic() + 5
    while made[3].images and time.monotonic() < until:
        time.sleep(0.005)
    assert (len(made[3].images), len(large.images)) == (0, 1)


def test_old_jobs_are_forgotten(jobs: Jobs, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "_KEPT_JOBS", 3)
    model.all_steps()
    for _ in range(6):
        wait(jobs.add(ASKED))
    until = time.monotonic() + 5
    while len(jobs.all()) > 3 and time.monotonic() < until:
        time.sleep(0.005)
    assert [job.number for job in jobs.all()] == [4, 5, 6]
    with pytest.raises(Refused, match="Request 1 is not known"):
        jobs.get(1)


def test_the_end_cancels_everything(model: Model) -> None:
    jobs = Jobs(model.make)
    first, second = jobs.add(ASKED), jobs.add(ASKED)
    wait(first, "running")
    jobs.end()
    model.all_steps()
    assert (wait(first).state, second.state) == ("cancelled", "cancelled")
    assert jobs.is_ending
