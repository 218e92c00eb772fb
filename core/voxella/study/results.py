"""What the runs of a study have measured, as their ``metrics.json`` say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from voxella.data.phantoms import MEASURED_ON_PHANTOMS, is_of_phantoms
from voxella.evaluation.report import NUMBERS
from voxella.metrics.declared.lookup import number_of
from voxella.metrics.declared.published import Published
from voxella.metrics.estimate import LEVEL, Estimate
from voxella.study.first_stages import reconstruction_entries
from voxella.study.step import Step
from voxella.workspace.state import DamagedError

__all__ = ["Number", "Result", "Status", "read_result"]


Status = Literal["finished", "failed", "missing"]


@dataclass(frozen=True)
class Number:
    """One number of one run, with what decides whether it may stand beside the paper's.

    Attributes:
        estimate: As measured; without a value, its note says why.
        network: Whose features; None where no network takes part.
        comparable: Whether the paper's number may stand beside it.
        why_not: The reason where it may not.
        paper: The paper's number for this recipe; None where the paper has none.
    """

    estimate: Estimate
    network: str | None = None
    comparable: bool = False
    why_not: str | None = None
    paper: float | None = None


@dataclass(frozen=True)
class Result:
    """What one recipe of the study has come to.

    Attributes:
        step: The recipe and where it ran.
        entries: ``metrics.json``'s numbers; empty where there are none yet.
        failure: What stopped it, in one line.
        published: The paper's row, and what the run says of standing beside it.
    """

    step: Step
    entries: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None
    published: Published = field(default_factory=lambda: Published(None))

    @property
    def status(self) -> Status:
        """Return ``finished``, ``failed`` or ``missing``."""
        if self.failure is not None:
            return "failed"
        return "finished" if self.entries else "missing"

    def number(self, metric: str) -> Number:
        """Return a metric of this recipe; one that was not measured says so."""
        entry = self.entries.get(metric)
        declared = number_of(metric)
        key = declared.paper_key
        paper = self.published.number(key)
        if entry is None:
            return Number(Estimate.undefined(0, self._absent()), paper=paper)
        why_not = self.published.why_not(key, entry, declared.paper_split)
        return Number(_estimate(entry), entry.get("network"), why_not is None, why_not, paper=paper)

    def _absent(self) -> str:
        reasons = {"failed": "the recipe failed", "missing": "not run yet"}
        return reasons.get(self.status, f"not measured by {self.step.until}")


def read_result(step: Step, failure: str | None = None) -> Result:
    """Read what a step has measured.

    Without its file the result is empty; so it is after a failure, because a file that is there may
    be of other settings, which is often why the recipe was refused.
    """
    data, row = step.recipe.data, step.recipe.paper
    phantom = is_of_phantoms(data, None if data.dataset is None else Path(data.dataset))
    differs = MEASURED_ON_PHANTOMS if phantom else None
    nothing = Published(row, differs)
    if failure is not None:
        return Result(step, failure=failure, published=nothing)
    try:
        if step.until == "check-autoencoder":
            return Result(step, reconstruction_entries(step), published=nothing)
        loaded = NUMBERS.read(step.metrics)
    except DamagedError as damage:
        return Result(step, failure=str(damage), published=nothing)
    if loaded is None:
        return Result(step, published=nothing)
    published = Published(
        row,
        differs or loaded.get("not_comparable_with_paper"),
        frozenset(loaded.get("paper") or ()),
    )
    return Result(step, loaded.get("metrics", {}), published=published)


def _estimate(entry: Mapping[str, Any]) -> Estimate:
    value = entry.get("value")
    note = entry.get("note")
    if value is None:
        note = note or "no reason given"
    return Estimate(
        value,
        entry.get("low"),
        entry.get("high"),
        int(entry.get("n") or 0),
        float(entry.get("level") or LEVEL),
        str(entry.get("how") or ""),
        note,
        entry.get("warning"),
    )
