"""Section "Downstream classifiers": what synthetic images are worth to a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.classification.summary import CURVES
from voxella.data.phantoms import MEASURED_ON_PHANTOMS
from voxella.evaluation.report import NUMBERS
from voxella.metrics.declared.published import Published
from voxella.recipe.model import PaperRow
from voxella.report.charts import Chart, line_chart
from voxella.report.curves import Points, read_log
from voxella.report.numbers import Group, make_row
from voxella.report.run_folder import RunFolder
from voxella.report.section import Absent, Section
from voxella.wording import counted

__all__ = ["Scenario", "classifiers_section"]

# Name of a curve in curves.json -> its title, horizontal axis and vertical axis.
_CURVES = {
    "roc": ("Receiver operating characteristic", "false_positive_rate", "true_positive_rate"),
    "pr": ("Precision over recall", "recall", "precision"),
}
# Scalar of the logs -> title, and whether the epoch was chosen by it.
_LEARNING = {
    "loss/total": ("Training loss", False),
    "validation/loss": ("Validation loss", True),
    "validation/auc": ("Validation AUC", True),
}
_CHOSEN = (
    "The circle is the epoch that was kept: the highest AUC on the validation cases, among equals "
    "the lowest loss. Test cases took no part in the choice."
)


@dataclass(frozen=True)
class Scenario:
    """One scenario: a training set, and what a classifier learnt from it.

    Attributes:
        name: The recipe's.
        facts: Training set, network, cases.
        group: The numbers.
        paper: The paper's name for it; None where none of its numbers may stand beside ours.
        charts: ROC, precision-recall, losses and validation, a line for each seed.
    """

    name: str
    facts: str
    group: Group
    paper: str | None
    charts: list[Chart]


def classifiers_section(run: RunFolder) -> Section | None:
    """Return the section; None for a run that is not about classifiers."""
    head = ("classifiers", "Downstream classifiers", "classifiers.html")
    folders = sorted(path.parent for path in run.folders.run.glob("classify/*/metrics.json"))
    if folders:
        return Section(*head, data=[_scenario(run, folder) for folder in folders])
    if run.recipe.classify is None:
        return None
    absent = Absent("No classifier was trained to its end yet.", run.command("classify"))
    return Section(*head, absent=absent)


def _scenario(run: RunFolder, folder: Path) -> Scenario:
    found = NUMBERS.read(folder / "metrics.json") or {}
    row = found.get("paper")
    differs = found.get("not_comparable_with_paper")
    published = Published(
        None if row is None else PaperRow.model_validate(row),
        MEASURED_ON_PHANTOMS if differs is None and run.is_phantom else differs,
    )
    metrics: dict[str, dict[str, Any]] = found.get("metrics", {})
    group = Group("", [make_row(key, entry, published) for key, entry in metrics.items()])
    paper = published.row.model if published.row is not None and group.with_paper else None
    charts = _charts(folder, found.get("seeds", {}))
    return Scenario(folder.name, _facts(found), group, paper, charts)


def _facts(found: dict[str, Any]) -> str:
    cases = found.get("cases") or {}
    parts = [
        f"trained on {str(found.get('training_set', '')).replace('_', ' ')} images",
        f"labels: {found.get('label')}" if found.get("training_set") != "real" else "",
        f"network {found.get('classifier')}",
        ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in cases.items()) + " cases",
        counted(len(found.get("seeds", {})), "training"),
    ]
    return "; ".join(part for part in parts if part)


def _charts(folder: Path, chosen: Mapping[str, Any]) -> list[Chart]:
    curves = (CURVES.read(folder / "curves.json") or {}).get("seeds", {})
    charts: list[Chart | None] = []
    for key, (title, across, up) in _CURVES.items():
        series = {
            name: sorted(zip(found[key][across], found[key][up], strict=True))
            for name, found in _lines(curves).items()
            if found.get(key) is not None
        }
        label = across.replace("_", " ")
        chart = line_chart(title, series, x_label=label, unit_square=True, diagonal=key == "roc")
        charts.append(chart)
    charts += [chart for phase in _phases(folder) for chart in _learning(folder, phase, chosen)]
    return [chart for chart in charts if chart is not None]


def _lines(curves: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the curves of each seed; without a positive class, of each class against the rest."""
    lines: dict[str, dict[str, Any]] = {}
    for seed, found in curves.items():
        classes = {} if found is None else found.get("classes", {})
        lines |= {f"seed {seed}, {name}": one for name, one in classes.items()}
        if found is not None and not classes:
            lines[f"seed {seed}"] = found
    return lines


def _phases(folder: Path) -> list[str]:
    """Return the names of the trainings that follow each other; "" is the only or the last one."""
    earlier = {path.parent.name for path in folder.glob("seed-*/*/log.jsonl")}
    return [*sorted(earlier), ""]


def _learning(folder: Path, phase: str, chosen: Mapping[str, Any]) -> list[Chart | None]:
    """Draw losses and validation of one training, each seed a line, the chosen epoch marked."""
    series: dict[str, dict[str, Points]] = {}
    for home in sorted(folder.glob("seed-*")):
        logs = [read_log(home / phase / name) for name in ("log.jsonl", "validation.jsonl")]
        for key in _LEARNING:
            points = next((log[key] for log in reversed(logs) if key in log), [])
            series.setdefault(key, {})[f"seed {home.name.removeprefix('seed-')}"] = points
    steps = {
        f"seed {seed}": float(facts[phase or "chosen"]["step"])
        for seed, facts in chosen.items()
        if (phase or "chosen") in facts
    }
    before = f"{phase}: " if phase else ""
    return [
        line_chart(
            f"{before}{title}",
            series.get(key, {}),
            marked=steps if validated else None,
            note=_CHOSEN if validated and steps else "",
        )
        for key, (title, validated) in _LEARNING.items()
    ]
