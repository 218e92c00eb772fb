"""What a waiting user sees: a live bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from voxella.terminal import make_console, print_line

__all__ = ["Steps", "live_bar", "print_line"]

_PLAIN_EVERY_SECONDS = 10.0


def live_bar(console: Console) -> Progress:
    """Return a terminal's bar; each of its tasks carries a ``note``, shown behind the times."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        refresh_per_second=2,
    )


class Steps:
    """Progress through a known number of steps, used as a context.

    Args:
        what: Shown before the bar; never report text.
        total: Steps in all.
        first: Steps that an earlier run has done.
        quiet: Show nothing; for every rank but the first.
    """

    def __init__(self, what: str, total: int, *, first: int = 0, quiet: bool = False) -> None:
        self._what = what
        self._total = total
        self._first = self._done = first
        self._quiet = quiet
        self._console = make_console()
        self._live: Progress | None = None
        self._started = self._told = time.monotonic()

    def advance(self, note: str = "") -> None:
        """Count one step; ``note`` is shown beside the bar."""
        self._done += 1
        if self._live is not None:
            self._live.update(self._live.task_ids[0], completed=self._done, note=note)
            return
        now = time.monotonic()
        last = self._done >= self._total
        if not self._quiet and (last or now - self._told >= _PLAIN_EVERY_SECONDS):
            self._told = now
            time_told = (
                f"took {self._clock(now, last)}" if last else f"{self._clock(now, last)} left"
            )
            print_line(f"{self._what} {self._done}/{self._total}, {time_told}  {note}".rstrip())

    def __enter__(self) -> Steps:
        if self._console.is_terminal and not self._quiet:
            self._live = live_bar(self._console)
            self._live.start()
            self._live.add_task(self._what, total=self._total, completed=self._first, note="")
        return self

    def __exit__(self, *raised: object) -> None:
        if self._live is not None:
            self._live.stop()

    def _clock(self, now: float, finished: bool) -> str:
        """Return the time taken when finished, else the time left at the pace so far."""
        seconds = now - self._started
        if not finished:
            seconds *= (self._total - self._done) / max(self._done - self._first, 1)
        return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"
