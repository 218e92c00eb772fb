"""What is asked of a model: one generation at a time, a short queue, and a bounded memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from voxella.case import ConditionValue
from voxella.errors import UserError
from voxella.progress import print_line
from voxella.sampling.synthetic_image import SyntheticImage
from voxella.view.answers import Refused

__all__ = ["Asked", "Job", "Jobs", "Making"]

State = Literal["waiting", "running", "done", "cancelled", "failed"]
_OVER = frozenset({"done", "cancelled", "failed"})
# Waiting beside the one that runs.
_MOST_WAITING = 8
# Finished images are kept while they fit; the oldest goes first.
_KEPT_BYTES = 2**30
_KEPT_JOBS = 100

Making = Callable[["Asked", Callable[[int, int], None]], list[SyntheticImage]]


@dataclass(frozen=True)
class Asked:
    """One request for images; ``report`` is patient data and stays in memory."""

    report: str = field(repr=False)
    label: str | None
    conditions: Mapping[str, ConditionValue]
    seed: int
    steps: int
    guidance: float
    count: int


class _Cancelled(Exception):
    """Raised in the sampling loop to leave it."""


@dataclass(eq=False)
class Job:
    """A request on its way.

    Attributes:
        number: Counts up from 1.
        asked: What for.
        state: Where it is.
        steps: (done, in all).
        images: Once it is done; none where they were dropped for newer ones.
        problem: Why it failed; "" else.
        seconds: It took, or has taken.
    """

    number: int
    asked: Asked
    state: State = "waiting"
    steps: tuple[int, int] = (0, 0)
    images: list[SyntheticImage] = field(default_factory=list)
    problem: str = ""
    seconds: float = 0.0
    started: float = 0.0
    first_step: float = 0.0
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """Return whether nothing more will come."""
        return self.state in _OVER

    def seconds_left(self) -> float | None:
        """Return how long its remaining steps take, from those after the first; None: unknown."""
        done, steps = self.steps
        if self.state != "running" or done < 2:
            return None
        # The first step also loads and warms up: it is no measure of the others.
        each = (time.monotonic() - self.first_step) / (done - 1)
        return each * (steps - done)


class Jobs:
    """The queue, and the one thread that works it off.

    Args:
        make: Makes the images of a request; calls back after each step.
    """

    def __init__(self, make: Making) -> None:
        self._make = make
        self._jobs: OrderedDict[int, Job] = OrderedDict()
        self._changed = threading.Condition()
        self._number = 0
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="voxella view", daemon=True)
        self._thread.start()

    @property
    def is_ending(self) -> bool:
        """Return whether the server is going."""
        return self._ending

    def add(self, asked: Asked) -> Job:
        """Put a request at the end of the queue.

        Raises:
            Refused: Too many wait already.
        """
        with self._changed:
            waiting = sum(job.state == "waiting" for job in self._jobs.values())
            if waiting >= _MOST_WAITING:
                raise Refused(
                    429, f"{waiting} requests are waiting already.", "wait, or cancel one of them"
                )
            self._number += 1
            job = self._jobs[self._number] = Job(self._number, asked)
            self._changed.notify_all()
            return job

    def get(self, number: int) -> Job:
        """Return a job.

        Raises:
            Refused: There is none of that number, or no longer.
        """
        with self._changed:
            found = self._jobs.get(number)
        if found is None:
            raise Refused(404, f"Request {number} is not known; the server may be a new one.")
        return found

    def all(self) -> list[Job]:
        """Return the jobs, oldest first."""
        with self._changed:
            return list(self._jobs.values())

    def ahead_of(self, job: Job) -> int:
        """Return how many come before a waiting one."""
        return sum(not other.is_over for other in self.all() if other.number < job.number)

    def cancel(self, job: Job) -> None:
        """Stop a job at its next step; one that waits never begins."""
        with self._changed:
            job.cancel.set()
            if job.state == "waiting":
                job.state = "cancelled"

    def end(self) -> None:
        """Cancel everything; called when the server goes."""
        self._ending = True
        for job in self.all():
            self.cancel(job)
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._run(job)
            self._forget()

    def _next(self) -> Job | None:
        with self._changed:
            while not self._ending:
                for job in self._jobs.values():
                    if job.state == "waiting":
                        job.state, job.started = "running", time.monotonic()
                        return job
                self._changed.wait()
            return None

    def _run(self, job: Job) -> None:
        def on_step(done: int, steps: int) -> None:
            if job.cancel.is_set():
                raise _Cancelled
            job.first_step = job.first_step or time.monotonic()
            job.steps, job.seconds = (done, steps), time.monotonic() - job.started

        state: State = "done"
        try:
            job.images = self._make(job.asked, on_step)
        except _Cancelled:
            state = "cancelled"
        except UserError as error:
            state, job.problem = "failed", str(error)
        except MemoryError:
            state, job.problem = "failed", "The memory of this machine does not suffice."
        except Exception as error:
            # Its message may quote what was typed, or a report.
            state = "failed"
            job.problem = f"The generation failed ({type(error).__name__})."
            print_line(f"view: the generation failed ({type(error).__name__})")
        job.seconds = time.monotonic() - job.started
        job.state = state

    def _forget(self) -> None:
        """Drop the oldest images beyond the budget, and the oldest jobs beyond their number."""
        with self._changed:
            with_images = [job for job in self._jobs.values() if job.images]
            room = _KEPT_BYTES
            for place, job in enumerate(reversed(with_images)):
                room -= sum(image.array.nbytes for image in job.images)
                # The newest stay whatever their size: they are what was asked for.
                if room < 0 and place > 0:
                    job.images = []
            over = [number for number, job in self._jobs.items() if job.is_over]
            for number in over[: max(0, len(self._jobs) - _KEPT_JOBS)]:
                del self._jobs[number]


def difference(left: SyntheticImage, right: SyntheticImage, sequence: str) -> Any:  # noqa: ANN401 - an array
    """Return ``|right - left|`` of a sequence, ``(C, *spatial)``.

    Raises:
        Refused: They are of different sizes.
    """
    one, other = left.array[left.channels[sequence]], right.array[right.channels[sequence]]
    if one.shape != other.shape:
        raise Refused(422, "The two images are of different sizes.")
    return np.abs(other - one)
