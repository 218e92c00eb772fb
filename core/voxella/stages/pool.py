"""One function over many jobs, in processes beside each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["processes_for", "run_in_processes"]

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


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
    return workers or max(1, min(cores, -(-jobs // per_process)))


def run_in_processes(
    function: Callable[[_Job], _Result],
    jobs: Sequence[_Job],
    processes: int,
    *,
    initializer: Callable[[], None] | None = None,
) -> Iterator[tuple[_Job, _Result | BrokenProcessPool]]:
    """Yield each job with its result, in the order of completion.

    A job that ends its process (a library's crash, memory) is found out by running what is left one
    by one; it comes with the exception in the place of a result.
    """

    def pool(size: int) -> ProcessPoolExecutor:
        # Spawned, not forked: a fork would copy the held locks of SimpleITK's threads.
        return ProcessPoolExecutor(size, get_context("spawn"), initializer=initializer)

    left = dict(enumerate(jobs))
    many = pool(processes)
    try:
        futures: dict[Future[_Result], int] = {
            many.submit(function, job): index for index, job in left.items()
        }
        for future in as_completed(futures):
            result = future.result()
            yield left.pop(futures[future]), result
    except BrokenProcessPool:
        pass
    finally:
        many.shutdown(cancel_futures=True)
    single = pool(1)
    try:
        for job in left.values():
            try:
                yield job, single.submit(function, job).result()
            except BrokenProcessPool as error:
                yield job, error
                single = pool(1)
    finally:
        single.shutdown(cancel_futures=True)
