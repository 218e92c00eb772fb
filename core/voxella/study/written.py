"""Tables as files: JSON for programs, Markdown to read, CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from voxella.files import write_json_atomic, write_text_atomic
from voxella.metrics.declared.lookup import number_of
from voxella.metrics.estimate import Estimate
from voxella.study.plan import Plan
from voxella.study.pooled import Pooled
from voxella.study.results import Result
from voxella.study.table import Filled
from voxella.wording import listed
from voxella.workspace.state import StateFile, sealed

__all__ = ["FORMAT", "TABLES", "as_markdown", "write_tables"]

FORMAT = 1


class _Row(TypedDict):
    run: str


class _Table(TypedDict):
    rows: list[_Row]


class _Tables(TypedDict):
    study: str
    tables: list[_Table]


TABLES: StateFile[dict[str, Any]] = StateFile(
    _Tables, "voxella study STUDY --out {folder} --table-only writes it again"
)
_CSV = (
    *("table", "recipe", "metric", "value", "low", "high", "n", "level", "network", "paper"),
    # Of one training; empty where the row is the recipe's.
    "seed",
)
_DASH = "-"
_OVER = {
    False: "It is over patients: another training of the same recipes may differ by more.",
    True: "It is over trainings and patients.",
}


def write_tables(plan: Plan, tables: Sequence[Filled], *, each_seed: bool = False) -> list[Path]:
    """Write ``table.json``, ``table.md`` and ``table.csv`` into the study's folder.

    Args:
        plan: The study.
        tables: Its tables.
        each_seed: Show every training in ``table.md``; the other two have them always.
    """
    data = {"format": FORMAT, "study": plan.name, "tables": [table.as_json() for table in tables]}
    return [
        write_json_atomic(plan.folder / "table.json", sealed(data)),
        write_text_atomic(plan.folder / "table.md", as_markdown(tables, each_seed=each_seed)),
        write_text_atomic(plan.folder / "table.csv", _as_csv(tables)),
    ]


def as_markdown(tables: Sequence[Filled], *, each_seed: bool = False) -> str:
    """Return the tables with their verdicts as Markdown."""
    return "\n".join(line for table in tables for line in _section(table, each_seed))


def _section(filled: Filled, each_seed: bool) -> list[str]:
    study = filled.table.study
    shown = {metric for metric in filled.columns if filled.shows_paper(metric)}
    heads = ["recipe"]
    for metric in filled.columns:
        heads += (
            [number_of(metric).column, "paper"] if metric in shown else [number_of(metric).column]
        )
    lines = [f"# {study.name}", "", *([study.description, ""] if study.description else [])]
    lines += [_row(heads), _row(["---"] * len(heads))]
    notes: dict[str, list[str]] = {}
    warnings: dict[str, list[str]] = {}
    for recipe in filled.table.rows:
        cells = [recipe]
        for metric in filled.columns:
            number = filled.number(recipe, metric)
            cells.append(_cell(number.estimate))
            if number.estimate.value is None and filled.results[recipe].status == "finished":
                notes.setdefault(str(number.estimate.note), []).append(f"{recipe}/{metric}")
            if number.estimate.warning is not None:
                warnings.setdefault(number.estimate.warning, []).append(f"{recipe}/{metric}")
            if metric in shown:
                cells.append(_DASH if number.paper is None else f"{number.paper:g}")
        lines.append(_row(cells))
        row = filled.results[recipe]
        if each_seed and isinstance(row, Pooled):
            lines += [_row(_training(result, filled.columns, shown)) for result in row.results]
    lines += ["", "Value (95 % interval; N patients).".replace("95 %", _level(filled)), ""]
    told = (*filled.repeated(), *filled.paper_lines(), *filled.unfinished())
    lines += [f"- {line}" for line in told]
    lines += [f"- warning: {listed(where, 4)}: {why}" for why, where in warnings.items()]
    seen = [f"{name} ({', '.join(columns)})" for name, columns in filled.networks().items()]
    lines += [f"- features: {', '.join(seen)}"] if seen else []
    lines += [f"- without a value: {listed(where, 4)}: {why}" for why, where in notes.items()]
    return [*lines, "", *_verdicts(filled)]


def _verdicts(filled: Filled) -> list[str]:
    lines: list[str] = []
    claim = None
    for outcome in filled.outcomes:
        if outcome.comparison.text != claim:
            claim = outcome.comparison.text
            lines += ["", f"**{claim}**", ""]
        basis = "" if outcome.paired or outcome.margin is None else " (from two separate intervals)"
        lines.append(f"- {outcome}{basis}{outcome.power}")
    if not lines:
        return []
    told = (
        "Each claim of the paper, held against these runs: the interval says by how much the left "
        "lies on the claimed side of the right; undecided where it holds 0. "
    )
    told += _OVER[filled.table.study.seeds > 1]
    return ["## Verdicts", "", told, *lines, ""]


def _training(result: Result, columns: Sequence[str], shown: set[str]) -> list[str]:
    """Return the cells of one training; the paper's numbers stand beside the recipe's."""
    cells = [f"seed {result.step.recipe.seed}"]
    for metric in columns:
        cells += [_cell(result.number(metric).estimate), *([""] if metric in shown else [])]
    return cells


def _cell(estimate: Estimate) -> str:
    if estimate.value is None:
        return _DASH
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g} (N {estimate.n})"
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g}; N {estimate.n})"


def _level(filled: Filled) -> str:
    levels = {
        filled.number(recipe, metric).estimate.level
        for recipe in filled.table.rows
        for metric in filled.columns
    }
    return " or ".join(f"{level:.0%}".replace("%", " %") for level in sorted(levels))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _as_csv(tables: Sequence[Filled]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _CSV, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        data = table.as_json()
        for row in data["rows"]:
            for seed, cells in _with_trainings(row):
                for metric, cell in cells.items():
                    record = _record(data["name"], row["recipe"], metric, cell)
                    writer.writerow({**record, "seed": seed})
    return out.getvalue()


def _with_trainings(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "", row["cells"]
    for training in row.get("trainings", []):
        yield str(training["seed"]), training["cells"]


def _record(table: str, recipe: str, metric: str, cell: dict[str, Any]) -> dict[str, Any]:
    values = {key: "" if cell.get(key) is None else cell[key] for key in _CSV[3:9]}
    paper = cell["paper"] if cell["paper_shown"] else ""
    return {"table": table, "recipe": recipe, "metric": metric, **values, "paper": paper}
