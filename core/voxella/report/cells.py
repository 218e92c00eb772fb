"""A measured number in one cell of a table that has a row for each run or data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voxella.report.numbers import shown
from voxella.report.section import shortened

__all__ = ["Cell", "make_cell"]


@dataclass(frozen=True)
class Cell:
    """One number: written value, interval, N, the paper's; or why there is none. "" is nothing."""

    value: str
    interval: str
    n: str
    paper: str
    note: str


def make_cell(found: Mapping[str, Any]) -> Cell:
    """Return a number of ``metrics.json`` or ``table.json`` as a cell.

    The paper's stands there only where ``paper_shown`` says that it may.
    """
    value, low, high = (found.get(key) for key in ("value", "low", "high"))
    if value is None:
        return Cell("", "", "", "", shortened(str(found.get("note") or "")))
    paper = found.get("paper") if found.get("paper_shown") else None
    return Cell(
        shown(value),
        "" if low is None or high is None else f"{shown(low)} to {shown(high)}",
        str(found.get("n", "")),
        "" if paper is None else shown(paper),
        "",
    )
