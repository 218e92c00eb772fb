"""An evaluation as a table on the terminal, each number with its interval, N, split and floor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from voxella.terminal import make_console

__all__ = ["show_metrics"]

_NOT_THE_PAPERS = "comparable with no published number"
_PLAIN_WIDTH = 100
_TEXT = {
    "": "text head, all cases",
    "_with_report": "text head, cases with a report",
    "_heldout": "text head, held-out reports, all cases",
    "_heldout_with_report": "text head, held-out reports, cases with a report",
}
_AFTER = "adherence_reconstructed_"
_AFTERWARDS = "lesions of real phantoms after the autoencoder alone"
_HEAD = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "auc", "ap")


def show_metrics(found: Mapping[str, Any], title: str) -> None:
    """Print ``metrics.json``: tables, warnings, what is not measured and why, the networks.

    Of the text head the numbers that the paper has are shown; the others are in the file.
    """
    console = make_console(pipe_width=_PLAIN_WIDTH)
    metrics: dict[str, dict[str, Any]] = found["metrics"]
    paper: dict[str, Any] = found.get("paper", {})
    for heading, names in _groups(metrics, title).items():
        shown = {short: metrics[name] for name, short in names.items() if _known(metrics[name])}
        if shown:
            console.print(_table(shown, paper if _beside_paper(heading) else {}, heading))
    lines = [f"  warning: {_spans(names)}: {why}" for why, names in _warned(metrics).items()]
    lines += [f"  {_spans(names)}: {why}" for why, names in _absent(metrics).items()]
    for network in found["networks"]:
        said = "the paper's network" if network["comparable_with_paper"] else _NOT_THE_PAPERS
        lines.append(
            f"features {network['kind']}: {network['name']}, {network['features']}, {said}"
        )
    for line in lines:
        console.print(line, soft_wrap=True)


def _groups(metrics: Mapping[str, Any], title: str) -> dict[str, dict[str, str]]:
    """Return by heading the names of a table and what they are called in it."""
    apart = ("text_", _AFTER)
    groups = {title: {name: name for name in metrics if not name.startswith(apart)}}
    for suffix, heading in _TEXT.items():
        names = {f"text_{short}{suffix}": short for short in _HEAD}
        groups[heading] = {name: short for name, short in names.items() if name in metrics}
    after = [name for name in metrics if name.startswith(_AFTER)]
    groups[_AFTERWARDS] = {name: name.removeprefix(_AFTER) for name in after}
    return groups


def _known(number: Mapping[str, Any]) -> bool:
    return number["value"] is not None


def _beside_paper(heading: str) -> bool:
    """Tell whether the paper has such numbers: its row is there for reports of the test split."""
    return heading not in (*_TEXT.values(), _AFTERWARDS) or heading == _TEXT["_with_report"]


def _table(metrics: Mapping[str, dict[str, Any]], paper: Mapping[str, Any], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in ("", "value", "interval", "N", "split", "real vs\nreal"):
        table.add_column(heading, no_wrap=True)
    if paper:
        table.add_column(f"paper:\n{paper['model']}", no_wrap=True)
    for name, number in metrics.items():
        floor = number.get("floor") or {}
        cells = [name, _form(number["value"]), _interval(number), str(number["n"])]
        cells += [number["split"], _form(floor.get("value"))]
        table.add_row(*cells, *([_form(paper.get(name))] if paper else []))
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


def _interval(number: Mapping[str, Any]) -> str:
    if number["low"] is None:
        return "-"
    return f"{_form(number['low'])} to {_form(number['high'])}"


def _form(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
