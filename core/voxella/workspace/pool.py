"""One function over many jobs, in processes beside each other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TypeVar

from voxella.errors import UserError

__all__ = ["KilledError", "process_pool", "processes_for", "run_in_processes"]

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)


def processes_for(jobs: int, workers: int, per_process: int) -> int:
    """Return how many processes to use.

    Args:
        jobs: How many there are.
        workers: Asked for by the user; 0: as many as cores, where there are jobs enough.
        per_process: Jobs that are worth starting a process.
    """
    # A container or a scheduler may allow fewer cores than the machine has.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    # A pool starts all its processes at once, whatever there is to do.
    return max(1, min(workers or min(cores, -(-jobs // per_process)), jobs))


class KilledError(BrokenProcessPool):
    """A process was killed from outside, as the system does when memory runs out."""

    def mistake(self, what: str) -> UserError:
        """Return what to tell the user; never that ``what`` is a bad case."""
        return UserError(
            f"the process that had {what} was killed from outside, twice: most likely the system "
            "had no memory left",
            remedy="fewer --workers leave more memory for each; the same command continues",
        )


def run_in_processes(
    function: Callable[[_Job], _Result],
    jobs: Sequence[_Job],
    processes: int,
    *,
    initializer: Callable[[], None] | None = None,
) -> Iterator[tuple[_Job, _Result | BrokenProcessPool]]:
    """Yield each job with its result, in the order of completion.

    A job that ends its process (a library's crash, memory) is found out by running those that may
    have been it one by one; it comes with the exception in the place of a result.

    Raises:
        Exception: What ``function`` raises.
    """
    left = dict(enumerate(jobs))
    while left:
        for index, result in _together(function, left, processes, initializer):
            yield left.pop(index), result
        # A process died, and with it the pool. Jobs start in order: it had one of the first.
        for index in list(left)[:processes]:
            job = left.pop(index)
            yield job, _alone(function, job, initializer)


def _together(
    function: Callable[[_Job], _Result],
    jobs: Mapping[int, _Job],
    processes: int,
    initializer: Callable[[], None] | None,
) -> Iterator[tuple[int, _Result]]:
    """Yield the results of all jobs that were done before a process died."""
    futures: dict[Future[_Result], int] = {}
    with process_pool(processes, initializer) as pool:
        with suppress(BrokenProcessPool):
            for index, job in jobs.items():
                futures[pool.submit(function, job)] = index
        for future in as_completed(futures):
            with suppress(BrokenProcessPool):
                yield futures[future], future.result()


def _alone(
    function: Callable[[_Job], _Result], job: _Job, initializer: Callable[[], None] | None
) -> _Result | BrokenProcessPool:
    context = _RecordingContext()
    try:
        with process_pool(1, initializer, context) as pool:
            return pool.submit(function, job).result()
    except BrokenProcessPool as error:
        # The pool has waited for it and is gone. While both wait, one of the two learns nothing.
        killed = any(process.exitcode in _FROM_OUTSIDE for process in context.started)
        return KilledError(*error.args) if killed else error


class _RecordingContext(SpawnContext):
    """Keeps the processes that it starts: a pool does not tell how one of its own has ended.

    Asking for the living children instead misses one that has died by then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: object, **options: object) -> SpawnProcess:  # type: ignore[override]  # its name
        process = SpawnProcess(*args, **options)  # type: ignore[arg-type]
        self.started.append(process)
        return process


@contextmanager
def process_pool(
    processes: int,
    initializer: Callable[[], None] | None = None,
    context: SpawnContext | None = None,
) -> Iterator[ProcessPoolExecutor]:
    """Give a pool whose processes end with this one, however it ends.

    Leaving early (an exception, Ctrl-C) ends them in the middle of their jobs.

    Args:
        processes: How many.
        initializer: Called in each.
        context: Starts them.
    """
    # Spawned, not forked: a fork would copy the held locks of SimpleITK's and torch's threads.
    context = context or get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        processes, context, initializer=_begin, initargs=(watched, initializer)
    )
    try:
        yield pool
    except BaseException:
        held.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        held.close()
        watched.close()


def _begin(watched: Connection, initializer: Callable[[], None] | None) -> None:
    # A terminal tells every process of Ctrl-C; the one that the user has started decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()
    if initializer is not None:
        initializer()


def _end_with(watched: Connection) -> None:
    # Nothing is ever sent: it wakes when the other end is closed, by a word or by a death.
    watched.poll(None)
    os._exit(1)
