"""Section "Measured": what `voxella evaluate` found, with intervals and baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from voxella.data.phantoms import MEASURED_ON_PHANTOMS
from voxella.evaluation.report import METRICS, NUMBERS
from voxella.metrics.declared.lookup import number_of
from voxella.metrics.declared.published import Published
from voxella.report.charts import Chart, line_chart
from voxella.report.numbers import Group, grouped_rows
from voxella.report.run_folder import RunFolder
from voxella.report.section import Absent, Section, shortened

__all__ = ["Measurements", "evaluation_of", "measured_section"]


@dataclass(frozen=True)
class Measurements:
    """The section's data.

    Attributes:
        groups: The tables.
        facts: Sentences on what was compared with what.
        warned: Names of the metrics whose value is not what they say, by the warning.
        undefined: Names of the metrics without a value, by the reason.
        paper: The paper's name for the model; None where the recipe has no row.
        calibration: Of the text head; None without one.
        bands: Percentiles of the real intensities, then the share of voxels that real and synthetic
            cases have there.
    """

    groups: list[Group]
    facts: list[str]
    warned: dict[str, list[str]]
    undefined: dict[str, list[str]]
    paper: str | None
    calibration: Chart | None
    bands: list[tuple[str, str, str]]

    @property
    def refusals(self) -> dict[str, list[str]]:
        """Return whose paper's numbers are kept out, by the reason."""
        found: dict[str, list[str]] = {}
        for group in self.groups:
            for row in group.rows:
                if row.refusal:
                    of_text = number_of(row.key).family == "text"
                    whose = f"{row.label} of the text head" if of_text else row.label
                    found.setdefault(row.refusal, []).append(whose)
        return found

    @property
    def hows(self) -> list[tuple[str, str]]:
        """Return how each number was reached, for all that say it."""
        rows = [row for group in self.groups for row in group.rows]
        return [
            (row.label, "; ".join(part for part in (row.how, row.note) if part))
            for row in rows
            if row.how or row.note
        ]


def evaluation_of(run: RunFolder) -> dict[str, Any] | None:
    """Return the ``metrics.json`` of the data set that is looked at, or None."""
    return NUMBERS.read(run.evaluation / METRICS)


def measured_section(run: RunFolder) -> Section:
    """Return the section."""
    head = ("measured", "Measured", "measured.html")
    found = evaluation_of(run)
    if found is None:
        absent = Absent("The synthetic cases were not evaluated yet.", run.command("evaluate"))
        return Section(*head, absent=absent)
    # A downstream recipe's paper row is of its classifier, under the same keys as the text head's.
    row = run.recipe.paper if run.recipe.classify is None else None
    published = Published(
        row, MEASURED_ON_PHANTOMS if run.is_phantom else None, frozenset(found.get("paper") or ())
    )
    metrics: dict[str, dict[str, Any]] = found.get("metrics", {})
    defined = {key: entry for key, entry in metrics.items() if entry.get("value") is not None}
    undefined: dict[str, list[str]] = {}
    warned: dict[str, list[str]] = {}
    for key, entry in metrics.items():
        if entry.get("warning"):
            warned.setdefault(shortened(str(entry["warning"])), []).append(number_of(key).label)
        if key not in defined:
            undefined.setdefault(shortened(str(entry.get("note") or "no reason given")), []).append(
                key
            )
    groups = grouped_rows(defined, published)
    paper = None if row is None else row.model
    curve, bands = _calibration(found), _bands(found)
    data = Measurements(groups, _facts(found), warned, undefined, paper, curve, bands)
    return Section(*head, data=data)


def _calibration(found: dict[str, Any]) -> Chart | None:
    """Draw the share of positives over the predicted probability, for all cases of each set."""
    curves = found.get("calibration") or {}
    names = {}
    for key in curves:
        # Without a positive class there is a curve for each, "text/CLASS".
        start, _, label = key.partition("/")
        among = {"text": "cases of the samples", "text_heldout": "unseen cases"}.get(start)
        if among is not None:
            names[key] = f"{label}, {among}" if label else among
    series = {
        name: [
            (float(part["predicted"]), float(part["observed"]["value"]))
            for part in curves.get(key, [])
            if part["predicted"] is not None and part["observed"]["value"] is not None
        ]
        for key, name in names.items()
    }
    told = "Calibration of the text head: share of positives"
    label = "predicted probability"
    return line_chart(told, series, x_label=label, unit_square=True, diagonal=True)


def _bands(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (
            "{:g} to {:g}".format(*band["percentiles"]),
            f"{100 * band['share_real']:.1f} %",
            f"{100 * band['share_synthetic']:.1f} %",
        )
        for band in found.get("tissue_bands") or []
        if band.get("share_real") is not None and band.get("share_synthetic") is not None
    ]


def _facts(found: dict[str, Any]) -> list[str]:
    cases, split = found.get("cases") or {}, found.get("split")
    told = []
    if {"synthetic", "real"} <= cases.keys():
        told.append(
            f"{cases['synthetic']} synthetic cases against {cases['real']} real {split} cases"
        )
    networks = [
        f"{network['kind'].replace('_', ' ')} {network['name']} ({network['features']} features)"
        for network in found.get("networks", [])
    ]
    if networks:
        told.append(f"features: {', '.join(networks)}")
    return told
