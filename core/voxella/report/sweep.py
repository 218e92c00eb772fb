"""Section "Data sets compared": what steps and guidance of a sweep make of the same model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from voxella.metrics.declared.lookup import number_of
from voxella.report.cells import Cell, make_cell
from voxella.report.charts import Chart, line_chart
from voxella.report.measured import evaluation_of
from voxella.report.run_folder import RunFolder
from voxella.report.section import Section
from voxella.report.side_by_side import Grid, side_by_side
from voxella.workspace.record import RECORDS

__all__ = ["DataSet", "Sweep", "sweep_section"]

# In the order of the columns; what was measured in none of the data sets has none.
_COLUMNS = (
    *("kid_3d", "fid_3d", "kid", "fid", "precision", "recall", "text_accuracy"),
    *("adherence_presence", "adherence_side", "adherence_zone", "adherence_size"),
    "copies_beyond_chance_latent",
)
_DRAWN = ("kid_3d", "kid", "recall", "adherence_presence")
# Fewer make no line.
_FEWEST = 3
_PICTURES = 6


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: Its folder; "" where it is not one of several.
        sampler: Its name; "" where that is not known.
        steps: Of sampling; None where that is not known.
        guidance: Scale; None where that is not known.
        cases: Synthetic ones.
        metrics: As evaluated; empty before.
        chosen: The rest of the page is about it.
    """

    name: str
    sampler: str
    steps: int | None
    guidance: float | None
    cases: int
    metrics: Mapping[str, Mapping[str, Any]]
    chosen: bool

    @property
    def told(self) -> str:
        """Return the settings in words."""
        known = [] if self.steps is None else [f"{self.steps} steps"]
        known += [] if self.guidance is None else [f"guidance {self.guidance:g}"]
        return ", ".join(known) or self.name


@dataclass(frozen=True)
class Sweep:
    """The section's data.

    Attributes:
        headings: Label of each metric, and which way is better.
        rows: Each data set with its cells.
        charts: Metrics over steps and guidance.
        evaluate: The command that measures; None where all are measured.
        grid: The same cases of all data sets; None where they share none.
    """

    headings: Sequence[tuple[str, str]]
    rows: list[tuple[DataSet, list[Cell]]]
    charts: list[Chart]
    evaluate: str | None
    grid: Grid | None


def sweep_section(run: RunFolder) -> Section | None:
    """Return the section; None for a run with no more than one data set.

    Raises:
        UserError: A volume or a file cannot be read.
    """
    views = [replace(run, data_set=name) for name in run.data_sets]
    if len(views) < 2:
        return None
    sets = [_data_set(run, view) for view in views]
    columns = [k for k in _COLUMNS if any(_value(s, k) is not None for s in sets)]
    rows = [(s, [make_cell(s.metrics.get(key, {})) for key in columns]) for s in sets]
    headings = [(number_of(key).full_label, number_of(key).better) for key in columns]
    pictured = [(s.told, "", view) for s, view in zip(sets, views, strict=True)]
    missing = any(not s.metrics for s in sets)
    data = Sweep(
        headings,
        rows,
        _charts(sets, [key for key in _DRAWN if key in columns]),
        run.command("evaluate") if missing else None,
        side_by_side(pictured, _PICTURES),
    )
    return Section("data-sets", "Data sets compared", "sweep.html", data)


def _data_set(run: RunFolder, view: RunFolder) -> DataSet:
    made = (RECORDS.read(view.samples / "stage.json") or {}).get("inputs", {})
    return DataSet(
        view.data_set or "",
        str(made.get("sampler") or ""),
        made.get("steps"),
        made.get("guidance"),
        0 if view.synthetic is None else len(view.synthetic),
        (evaluation_of(view) or {}).get("metrics", {}),
        view.samples == run.samples,
    )


def _value(data_set: DataSet, key: str) -> float | None:
    value = data_set.metrics.get(key, {}).get("value")
    return None if value is None else float(value)


def _charts(sets: list[DataSet], keys: list[str]) -> list[Chart]:
    """Draw each metric over guidance, a line for each number of steps, and the other way round."""
    found = []
    for key in keys:
        label = number_of(key).label
        for across, by in ((_guidance, _steps), (_steps, _guidance)):
            series: dict[str, list[tuple[float, float]]] = {}
            for data_set in sets:
                x, line, y = across(data_set), by(data_set), _value(data_set, key)
                if x is not None and line is not None and y is not None:
                    series.setdefault(line[1], []).append((x[0], y))
            drawn = {n: sorted(points) for n, points in series.items() if len(points) >= _FEWEST}
            x_label = "guidance" if across is _guidance else "steps"
            chart = line_chart(f"{label}, over {x_label}", drawn, x_label=x_label)
            found += [] if chart is None else [chart]
    return found


def _guidance(data_set: DataSet) -> tuple[float, str] | None:
    value = data_set.guidance
    return None if value is None else (float(value), f"guidance {value:g}")


def _steps(data_set: DataSet) -> tuple[float, str] | None:
    value = data_set.steps
    return None if value is None else (float(value), f"{value} steps")
