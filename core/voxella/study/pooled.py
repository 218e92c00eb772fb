"""What the trainings of one recipe have come to together: the mean, over trainings and patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from voxella.metrics.estimate import Estimate, joined
from voxella.study.plan import Plan, Table
from voxella.study.results import Number, Result, Status
from voxella.study.step import Step
from voxella.study.two_level import covariance_of_errors, two_level

__all__ = ["Pooled", "Row", "measured_of", "rows_of", "trainings_of"]

_HOW = "mean over trainings; errors over patients taken to be shared by them"


@dataclass(frozen=True)
class Pooled:
    """A row of several trainings; it answers as a :class:`Result` does.

    Attributes:
        results: One a training.
    """

    results: tuple[Result, ...]

    @property
    def step(self) -> Step:
        """Return the first training's step, for what all have in common."""
        return self.results[0].step

    @property
    def status(self) -> Status:
        """Return ``finished`` where any training has numbers, ``failed`` where else one failed."""
        order: dict[Status, int] = {"finished": 0, "failed": 1, "missing": 2}
        return min((result.status for result in self.results), key=order.__getitem__)

    def number(self, metric: str) -> Number:
        """Return the mean over the trainings that have the metric; the first's reason if none."""
        every = [result.number(metric) for result in self.results]
        found = [number for number in every if number.estimate.value is not None]
        if not found:
            return every[0]
        first = found[0]
        if any(number.network != first.network for number in found):
            why = "the trainings were seen by different networks"
            return replace(first, estimate=Estimate.undefined(first.estimate.n, why))
        strange = next((number for number in found if not number.comparable), first)
        estimate = _mean([number.estimate for number in found], len(every))
        return replace(strange, estimate=estimate)


Row = Result | Pooled


def trainings_of(row: Row) -> tuple[Result, ...]:
    """Return the results behind a row."""
    return row.results if isinstance(row, Pooled) else (row,)


def measured_of(row: Row, metric: str) -> list[Result]:
    """Return the trainings of a row that have a metric."""
    return [r for r in trainings_of(row) if r.number(metric).estimate.value is not None]


def rows_of(plan: Plan, table: Table, results: Mapping[str, Result]) -> dict[str, Row]:
    """Return a table's rows by name: one training's result, or those of several together.

    Args:
        plan: The study.
        table: One of its tables.
        results: By the name of the step.
    """
    rows: dict[str, Row] = {}
    for name in table.rows:
        own = tuple(results[step.name] for step in plan.trainings(name, table.study.seeds))
        rows[name] = own[0] if len(own) == 1 else Pooled(own)
    return rows


def _mean(found: Sequence[Estimate], asked: int) -> Estimate:
    values = np.array([estimate.value for estimate in found], dtype=np.float64)
    n, level = min(estimate.n for estimate in found), min(estimate.level for estimate in found)
    note = joined(*dict.fromkeys(estimate.note for estimate in found))
    warning = joined(*dict.fromkeys(estimate.warning for estimate in found))
    if len(found) < asked:
        note = joined(f"{len(found)} of {asked} trainings", note)
    errors = [_error(estimate) for estimate in found]
    known = [error for error in errors if error is not None]
    if len(found) < 2 or len(known) < len(errors):
        told = f"mean of {len(found)} trainings"
        return Estimate(float(values.mean()), None, None, n, level, told, note, warning)
    covariance = covariance_of_errors(np.array(known))
    whole = two_level([values], covariance, n=n, level=level, how=_HOW)
    return replace(whole, note=note, warning=warning)


def _error(estimate: Estimate) -> float | None:
    """Return the standard error that an interval comes to; None without one."""
    if estimate.low is None or estimate.high is None:
        return None
    return (estimate.high - estimate.low) / 2 / float(norm.ppf((1 + estimate.level) / 2))
