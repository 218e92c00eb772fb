"""A study's plan and its cost on the terminal."""

from __future__ import annotations

from rich.table import Table

from voxella.forecast.forecast import Forecast, StepForecast
from voxella.progress import print_line
from voxella.study.claims import comparisons
from voxella.study.plan import Plan
from voxella.terminal import make_console
from voxella.wording import human_bytes

__all__ = ["show_forecast"]

_UNKNOWN = "?"
_LEFT_OUT = (
    "not in the estimate: importing, preparing, the text encoder, validation, features of the "
    "evaluation; memory is without what the driver and kernels take; images compress, reports are "
    "shorter than the limit"
)


def show_forecast(plan: Plan, found: Forecast) -> None:
    """Print what would run, in order, and what it would cost."""
    table = Table(title=f"study {plan.name}, in order", title_justify="left")
    heads = ("recipe", "until", "parameters", "steps", "volumes", "GPU hours", "memory", "disk")
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < 2 else "right", no_wrap=True)
    work = human_bytes(sum(found.work.values()))
    table.add_row("workspace", "encode", "", "", "", _hours(found.work_hours), "", work)
    for step in found.steps:
        table.add_row(*_row(step, found))
    total = ("all", "", "", "", "", _hours(found.hours), "", human_bytes(found.disk_bytes))
    table.add_section()
    table.add_row(*total)
    # Wide enough wherever it is printed: a plan that is cut off says nothing.
    make_console(width=max(110, make_console().width)).print(table)
    _print_summary(plan, found)


def _row(step: StepForecast, found: Forecast) -> tuple[str, ...]:
    return (
        step.step.name,
        step.step.until,
        _UNKNOWN if step.parameters is None else f"{step.parameters:,}",
        f"{step.steps:,}",
        f"{step.volumes:,}" if step.volumes else "",
        _hours(step.hours(found.speed)),
        _UNKNOWN if step.gpu_bytes is None else human_bytes(step.gpu_bytes),
        human_bytes(step.disk_bytes),
    )


def _print_summary(plan: Plan, found: Forecast) -> None:
    parts = ", ".join(f"{name} {human_bytes(size)}" for name, size in found.work.items())
    print_line(f"cases: {found.cases.train} to train on of {found.cases.all} ({found.cases.basis})")
    places = len({step.recipe.workspace for step in plan.steps})
    whose = "workspace, made once for all recipes"
    if places > 1:
        whose = f"{places} workspaces, each made once for the recipes that share it"
    print_line(f"{whose}: {parts}")
    print_line(
        f"memory: of each of {found.processes} process(es); GPU hours: on {found.speed.device}"
    )
    for line in found.speed.basis:
        print_line(f"  {line}")
    print_line(_LEFT_OUT)
    for table in plan.tables:
        claims = sum(1 for _ in comparisons(table.study))
        columns = ", ".join(table.study.columns)
        print_line(
            f"table {table.study.name}: {len(table.rows)} rows; {columns}; {claims} verdicts"
        )
    print_line(f"would be written to {plan.folder}; this was a dry run, nothing was")


def _hours(hours: float | None) -> str:
    if hours is None:
        return _UNKNOWN
    return f"{hours:.1f}" if hours >= 0.05 else "< 0.1"
