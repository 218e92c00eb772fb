"""An evaluation as a table on the terminal: each number's interval, N, split and baseline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from voxella.metrics.declared.lookup import number_of
from voxella.metrics.declared.number import Number
from voxella.metrics.estimate import told_interval, told_value
from voxella.terminal import make_console

__all__ = ["show_metrics"]

_NOT_THE_PAPERS = "comparable with no published number"
_PLAIN_WIDTH = 100


def show_metrics(found: Mapping[str, Any], title: str) -> None:
    """Print ``metrics.json``: tables, warnings, what is not measured and why, the networks.

    What a metric declares as not printed is in the file alone.
    """
    console = make_console(pipe_width=_PLAIN_WIDTH)
    metrics: dict[str, dict[str, Any]] = found["metrics"]
    paper: dict[str, Any] = found.get("paper", {})
    for heading, numbers in _tables(metrics).items():
        shown = [(number, metrics[number.key]) for number in numbers]
        if shown := [(n, entry) for n, entry in shown if entry["value"] is not None]:
            console.print(_table(shown, paper, heading or title))
    lines = [f"  warning: {_spans(names)}: {why}" for why, names in _warned(metrics).items()]
    lines += [f"  {_spans(names)}: {why}" for why, names in _absent(metrics).items()]
    for network in found["networks"]:
        said = "the paper's network" if network["comparable_with_paper"] else _NOT_THE_PAPERS
        lines.append(
            f"features {network['kind']}: {network['name']}, {network['features']}, {said}"
        )
    for line in lines:
        console.print(line, soft_wrap=True)


def _tables(metrics: Mapping[str, Any]) -> dict[str, list[Number]]:
    """Return by title, "" the first, the numbers of each table, as they are declared."""
    tables: dict[str, list[Number]] = {"": []}
    for number in map(number_of, metrics):
        if number.printed:
            tables.setdefault(number.table, []).append(number)
    return tables


def _table(
    shown: Sequence[tuple[Number, Mapping[str, Any]]], paper: Mapping[str, Any], title: str
) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in ("", "value", "interval", "N", "split", "real vs\nreal"):
        table.add_column(heading, no_wrap=True)
    beside = {number.key: paper.get(number.beside_paper or "") for number, _ in shown}
    with_paper = bool(paper) and (not shown[0][0].table or any(beside.values()))
    if with_paper:
        table.add_column(f"paper:\n{paper['model']}", no_wrap=True)
    for number, entry in shown:
        floor = entry.get("floor") or {}
        name = number.row or number.key
        cells = [f"{name}, {number.unit}" if number.unit else name]
        cells += [told_value(entry["value"]), told_interval(entry), str(entry["n"])]
        cells += [entry["split"], told_value(floor.get("value"))]
        table.add_row(*cells, *([told_value(beside[number.key])] if with_paper else []))
    return table


def _absent(metrics: Mapping[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Return the names without a value by the reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, number in metrics.items():
        if number["value"] is None:
            by_reason[str(number["note"])].append(name)
    return by_reason


def _warned(metrics: Mapping[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Return the names of values that must not be read without a warning, by the warning."""
    by_warning: dict[str, list[str]] = defaultdict(list)
    for name, number in metrics.items():
        if number.get("warning"):
            by_warning[str(number["warning"])].append(name)
    return by_warning


def _spans(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} to {names[-1]} ({len(names)})"
