"""The same cases, as several runs or data sets have made them: a row for each, a column a case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from voxella.case import Case
from voxella.report.pairs import Pair, evenly, first_counterparts, pairs_of
from voxella.report.run_folder import RunFolder
from voxella.report.sprites import data_uri, middle_slice

__all__ = ["Grid", "GridRow", "side_by_side"]

# Longest edge of a picture, in pixels: a few kilobytes each.
_EDGE = 176


@dataclass(frozen=True)
class GridRow:
    """One run, data set, or the real cases.

    Attributes:
        name: Of the run or data set.
        anchor: Where the page tells more of it; "" for nowhere.
        pictures: One for each column; None where it has no such volume.
    """

    name: str
    anchor: str
    pictures: list[str | None]


@dataclass(frozen=True)
class Grid:
    """Pictures in rows.

    Attributes:
        columns: Case and its label.
        sequence: Which image is shown.
        rows: The real cases first, where there are any.
    """

    columns: list[tuple[str, str]]
    sequence: str
    rows: list[GridRow]

    @property
    def with_real(self) -> bool:
        """Return whether the first row is of real cases."""
        return self.rows[0].name == "real"


def side_by_side(shown: Sequence[tuple[str, str, RunFolder]], most: int) -> Grid | None:
    """Return the grid, or None where fewer than two have volumes of the same cases.

    Args:
        shown: Name, anchor and run of each row.
        most: Cases at most, evenly of every class.

    Raises:
        UserError: A volume cannot be read.
    """
    counterparts = [(name, anchor, run, first_counterparts(run)) for name, anchor, run in shown]
    counterparts = [row for row in counterparts if row[3]]
    # What all of them have, or as many as have anything in common.
    counts = Counter(source for *_, cases in counterparts for source in cases)
    widest = max(counts.values(), default=0)
    if widest < 2:
        return None
    common: dict[str, Case] = {}
    for *_, cases in counterparts:
        for source, case in cases.items():
            if counts[source] == widest:
                common.setdefault(source, case)
    of = {case.id: source for source, case in common.items()}
    chosen = [of[case.id] for case in evenly(list(common.values()), most)]
    sequence = counterparts[0][2].recipe.data.sequences[0]
    rows, real = [], dict.fromkeys(chosen, "")
    for name, anchor, run, cases in counterparts:
        pairs = pairs_of(run, [cases[s] for s in chosen if s in cases], sequence)
        there = {pair.synthetic.id: pair for pair in pairs}
        found = {s: there[c.id] for s, c in cases.items() if c.id in there}
        pictures = [_pictures(found[s], s, real) if s in found else None for s in chosen]
        if any(pictures):
            rows.append(GridRow(name, anchor, pictures))
    if len(rows) < 2:
        return None
    if any(real.values()):
        rows.insert(0, GridRow("real", "", [real[source] or None for source in chosen]))
    runs = [run for *_, run, _ in counterparts]
    columns = [(_shown(source, runs), common[source].label or "no label") for source in chosen]
    return Grid(columns, sequence, rows)


def _shown(source: str, runs: Sequence[RunFolder]) -> str:
    """Return a case's pseudonym in the first of the runs that gave it one."""
    names = (run.shown(source) for run in runs)
    return next((name for name in names if name != source), source)


def _pictures(pair: Pair, source: str, real: dict[str, str]) -> str:
    """Return the synthetic picture; the real one, once, goes into ``real``."""
    counterpart, synthetic = pair.read()
    if counterpart is not None and not real[source]:
        real[source] = data_uri(middle_slice(counterpart, _EDGE))
    return data_uri(middle_slice(synthetic, _EDGE))
