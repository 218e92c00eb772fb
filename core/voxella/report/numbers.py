"""Measured numbers as rows of a table: interval, N, baseline, and the paper's where it may stand.

What may stand beside the paper's numbers, ``voxella.metrics.declared.published`` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from voxella.metrics.declared.lookup import number_of
from voxella.metrics.declared.number import GROUPS
from voxella.metrics.declared.published import Published
from voxella.report.section import shortened

__all__ = ["Bar", "Group", "Row", "grouped_rows", "make_row", "shown"]

_BAR = 120.0  # width of the drawing, in its own units
_END = 4.0


@dataclass(frozen=True)
class Bar:
    """A number drawn on its own axis from 0; places along the drawing.

    Attributes:
        value: The dot.
        interval: The line through it; None without an interval.
        floor: The band of the real cases; None without.
        paper: The mark of the paper's number; None where it may not stand here.
    """

    value: float
    interval: tuple[float, float] | None
    floor: tuple[float, float] | None
    paper: float | None


@dataclass(frozen=True)
class Row:
    """One metric.

    Attributes:
        key: Its name in ``metrics.json``.
        label: For people.
        better: ``lower``, ``higher`` or "".
        value: Written; "" where undefined.
        interval: Written; "" without.
        n: Independent units.
        split: Real cases it was measured on.
        floor: The same of real cases among themselves, written; "" without.
        paper: The paper's number, written; "" where it may not or cannot stand here.
        refusal: Why it may not, where the paper has a number; "" else.
        how: Estimator and interval.
        note: What to know before comparing.
        bar: The drawing; None where there is only a value, on no axis that it could be seen on.
    """

    key: str
    label: str
    better: str
    value: str
    interval: str
    n: str
    split: str
    floor: str
    paper: str
    refusal: str
    how: str
    note: str
    bar: Bar | None


@dataclass(frozen=True)
class Group:
    """Rows under one heading."""

    title: str
    rows: list[Row]

    @property
    def with_baseline(self) -> bool:
        """Return whether any row has a baseline."""
        return any(row.floor for row in self.rows)

    @property
    def with_paper(self) -> bool:
        """Return whether the paper's number stands beside any row's."""
        return any(row.paper for row in self.rows)

    @property
    def refusals(self) -> list[str]:
        """Return why paper's numbers are kept out, each reason once."""
        return list(dict.fromkeys(row.refusal for row in self.rows if row.refusal))


def grouped_rows(metrics: Mapping[str, Mapping[str, Any]], published: Published) -> list[Group]:
    """Return all metrics in the groups of the page."""
    found: dict[str, list[Row]] = {title: [] for title in GROUPS}
    for key, entry in metrics.items():
        found.setdefault(number_of(key).group, []).append(make_row(key, entry, published))
    return [Group(title, rows) for title, rows in found.items() if rows]


def make_row(key: str, entry: Mapping[str, Any], published: Published) -> Row:
    """Return one metric as a row.

    Args:
        key: Its name.
        entry: What ``metrics.json`` has of it.
        published: What it may be compared with.
    """
    number = number_of(key)
    paper, refusal = published.beside(number.beside_paper, entry, number.paper_split)
    floor = entry.get("floor") or {}
    network = str(entry.get("network") or "")
    value = entry.get("value")
    return Row(
        key,
        f"{number.label}, {number.unit}"
        if number.unit and number.unit not in number.label
        else number.label,
        number.better,
        "" if value is None else shown(value),
        _interval(entry),
        str(entry.get("n", "")),
        str(entry.get("split") or ""),
        _with_interval(floor),
        "" if paper is None else shown(paper),
        f"{refusal}; not comparable with the paper" if refusal else "",
        shortened("; ".join(part for part in (str(entry.get("how") or ""), network) if part)),
        shortened(str(entry.get("note") or "")),
        None if value is None else _bar(entry, floor, paper, number.bounded),
    )


def shown(value: float) -> str:
    """Return a number with three significant digits, in full where it is a whole one."""
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _with_interval(entry: Mapping[str, Any]) -> str:
    if entry.get("value") is None:
        return ""
    interval = _interval(entry)
    return f"{shown(entry['value'])} ({interval})" if interval else shown(entry["value"])


def _interval(entry: Mapping[str, Any]) -> str:
    low, high = entry.get("low"), entry.get("high")
    return "" if low is None or high is None else f"{shown(low)} to {shown(high)}"


def _bar(
    entry: Mapping[str, Any], floor: Mapping[str, Any], paper: float | None, bounded: bool
) -> Bar | None:
    if not bounded and _ends(entry) is None and not floor and paper is None:
        return None
    low, high = _ends(entry) or (entry["value"], entry["value"])
    band = _ends(floor)
    known = [low, high, *(band or ()), *([] if paper is None else [paper])]
    bottom, top = (0.0, 1.0) if bounded else (min(0.0, *known), max(known))
    place = _places(bottom, top)
    return Bar(
        place(entry["value"]),
        None if _ends(entry) is None else (place(low), place(high)),
        None if band is None else (place(band[0]), place(band[1])),
        None if paper is None else place(paper),
    )


def _places(bottom: float, top: float) -> Callable[[float], float]:
    span = top - bottom or 1.0

    def place(value: float) -> float:
        share = min(max((value - bottom) / span, 0.0), 1.0)
        return round(_END + share * (_BAR - 2 * _END), 1)

    return place


def _ends(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = entry.get("low"), entry.get("high")
    return None if low is None or high is None else (float(low), float(high))
