"""The observer ``progress``: plain lines in a log, a bar on a terminal, honest remaining time."""

from __future__ import annotations

import io

from rich.console import Console

from voxella.observers.progress import ProgressObserver


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def watch(
    *, terminal: bool = False, every: float = 10.0
) -> tuple[ProgressObserver, Clock, Console]:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=160, highlight=False)
    clock = Clock()
    return ProgressObserver(every, console, clock), clock, console


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def run(observer: ProgressObserver, clock: Clock, *, first: int, total: int) -> None:
    """Take two seconds a step."""
    observer.voxella_run_start(stage="train", total_steps=total, first_step=first)
    for step in range(first + 1, total + 1):
        clock.now += 2.0
        scalars = {"loss/total": 1 / step, "cases_per_second": 2.0, "lr": 1e-4}
        observer.voxella_step_end(step=step, scalars=scalars)


def test_plain_lines_are_few_and_complete() -> None:
    observer, clock, console = watch()
    run(observer, clock, first=0, total=12)
    observer.voxella_run_end(status="finished")
    assert written(console).splitlines() == [
        "train  12 steps",
        "train  step 1/12  loss 1.0000  2.00 cases/s  remaining 0:00:22",
        "train  step 6/12  loss 0.1667  2.00 cases/s  remaining 0:00:12",
        "train  step 11/12  loss 0.0909  2.00 cases/s  remaining 0:00:02",
        "train  step 12/12  loss 0.0833  2.00 cases/s  remaining 0:00:00",
        "train  finished after step 12/12, 0:00:24",
    ]


def test_a_resumed_run_counts_only_its_own_steps() -> None:
    observer, clock, console = watch(every=0.0)
    run(observer, clock, first=100, total=103)
    first, second, *_ = written(console).splitlines()
    assert first == "train  103 steps, resumed after step 100"
    assert second.endswith("remaining 0:00:04")


def test_missing_scalars_are_left_out() -> None:
    observer, clock, console = watch()
    observer.voxella_run_start(stage="train", total_steps=2, first_step=0)
    clock.now += 1.0
    observer.voxella_step_end(step=1, scalars={})
    assert written(console).splitlines()[-1] == "train  step 1/2  remaining 0:00:01"


def test_metrics_are_lines_of_their_own() -> None:
    observer, _, console = watch()
    observer.voxella_run_start(stage="train", total_steps=2, first_step=0)
    observer.voxella_metric(step=1, name="validation/psnr", value=21.456)
    assert written(console).splitlines()[-1] == "train  step 1  validation/psnr 21.46"


def test_a_terminal_has_a_bar_and_gets_its_cursor_back() -> None:
    observer, clock, console = watch(terminal=True)
    run(observer, clock, first=0, total=3)
    observer.voxella_run_end(status="failed")
    shown = written(console)
    assert "3/3" in shown
    assert "loss 0.3333  2.00 cases/s" in shown
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert shown.count(hide) == shown.count(show) == 1
    assert "failed after step 3/3" in shown.split(show)[1]
