"""Section "Training": the losses of the log, step by step."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from voxella.report.charts import Chart, line_chart
from voxella.report.run_folder import RunFolder
from voxella.report.section import Absent, Section

__all__ = ["curves_section", "read_log"]

_QUARTILES = {
    f"loss/timestep_quartile_{k}": name
    for k, name in enumerate(("least noise", "2nd quarter", "3rd quarter", "most noise"), start=1)
}
# title -> scalar of the log -> name in the legend
_CHARTS: dict[str, dict[str, str]] = {
    "Loss": {
        "loss/total": "total",
        "loss/reconstruction": "reconstruction",
        "loss/class": "class",
    },
    "Reconstruction loss by noise level": _QUARTILES,
    "Class head, accuracy in training": {"class_head/accuracy": "accuracy"},
    "Learning rate": {"lr": "learning rate"},
    "Gradient norm before clipping": {"grad_norm": "gradient norm"},
    "Cases a second": {"cases_per_second": "cases a second"},
}
_LOGARITHMIC = {"Loss", "Reconstruction loss by noise level", "Gradient norm before clipping"}

Points = list[tuple[float, float]]


def curves_section(run: RunFolder) -> Section:
    """Return the section."""
    head = ("training", "Training", "curves.html")
    scalars = read_log(run.folders.run / "train" / "log.jsonl")
    if not scalars:
        return Section(*head, absent=Absent("Nothing was trained yet.", run.command("train")))
    return Section(*head, data=_charts(scalars))


def read_log(path: Path) -> dict[str, Points]:
    """Return a log's scalars as points over the step; empty without a log."""
    found: dict[str, Points] = defaultdict(list)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        try:
            scalars = json.loads(line)
        except json.JSONDecodeError:
            break  # the line that a kill cut short
        step = float(scalars.pop("step"))
        for name, value in scalars.items():
            found[name].append((step, float(value)))
    return found


def _charts(scalars: dict[str, Points]) -> list[Chart]:
    found = []
    for title, wanted in _CHARTS.items():
        series = {name: scalars[key] for key, name in wanted.items() if key in scalars}
        # Without a class loss the total is the reconstruction.
        if "class" not in series:
            series.pop("total", None)
        chart = line_chart(title, series, ordered=wanted is _QUARTILES, log=title in _LOGARITHMIC)
        if chart is not None:
            found.append(chart)
    return found
