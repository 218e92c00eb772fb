"""Observer ``progress``: a bar with the remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["ProgressObserver", "progress", "voxella_factory"]

_LOSS, _RATE = "loss/total", "cases_per_second"


class ProgressObserver:
    """Say how far a stage is, its loss, its speed and how long it still takes.

    Args:
        every_seconds: Shortest time between two plain lines; the first and the last step always
            have one. A terminal's bar is redrawn twice a second.
        console: Where it is shown; None is stderr, which leaves stdout to results.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        every_seconds: float = 10.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from voxella.terminal import make_console

        self._console = console or make_console(stderr=True)
        self._every_seconds = every_seconds
        self._clock = clock
        self._bar: Progress | None = None
        self._stage = ""
        self._total = self._first = self._step = 0
        self._started = self._spoken = 0.0

    @hookimpl
    def voxella_run_start(self, stage: str, total_steps: int, first_step: int) -> None:
        """Start the bar, or say what begins."""
        self._stage, self._total = stage, total_steps
        self._first = self._step = first_step
        self._started = self._clock()
        self._spoken = float("-inf")
        resumed = f", resumed after step {first_step}" if first_step else ""
        if self._console.is_terminal:
            from voxella.progress import live_bar

            self._bar = live_bar(self._console)
            self._bar.add_task(stage, total=total_steps, completed=first_step, note="")
            self._bar.start()
        else:
            self._print(f"{total_steps} steps{resumed}")

    @hookimpl
    def voxella_step_end(self, step: int, scalars: Mapping[str, float]) -> None:
        """Move the bar, or say a line when the last one is old enough."""
        self._step = step
        status = _status(scalars)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, note=status)
            return
        if step < self._total and self._clock() - self._spoken < self._every_seconds:
            return
        self._spoken = self._clock()
        parts = [f"step {step}/{self._total}", status, f"remaining {self.remaining()}"]
        self._print("  ".join(part for part in parts if part))

    @hookimpl
    def voxella_metric(self, step: int, name: str, value: float) -> None:
        """Say a number that is measured now and then."""
        self._print(f"step {step}  {name} {value:.4g}")

    @hookimpl
    def voxella_run_end(self, status: str) -> None:
        """Give the terminal back and say how it ended."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        took = _whole_seconds(self._clock() - self._started)
        self._print(f"{status} after step {self._step}/{self._total}, {took}")

    def remaining(self) -> timedelta:
        """Return the time the remaining steps take at this process's mean speed so far."""
        done = max(self._step - self._first, 1)
        each = (self._clock() - self._started) / done
        return _whole_seconds(each * (self._total - self._step))

    def _print(self, line: str) -> None:
        self._console.print(f"{self._stage}  {line}", markup=False, soft_wrap=True)


def progress(*, every_seconds: float = 10.0) -> ProgressObserver:
    """Build the observer; see :class:`ProgressObserver`."""
    return ProgressObserver(every_seconds)


@hookimpl
def voxella_factory(name: str) -> Callable[..., ProgressObserver] | None:
    """Return the builder of ``progress``."""
    return progress if name == "progress" else None


def _status(scalars: Mapping[str, float]) -> str:
    """Return loss and speed, as far as this step has them."""
    loss = f"loss {scalars[_LOSS]:.4f}" if _LOSS in scalars else ""
    rate = f"{scalars[_RATE]:.2f} cases/s" if _RATE in scalars else ""
    return "  ".join(part for part in (loss, rate) if part)


def _whole_seconds(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))
