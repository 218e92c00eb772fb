"""What the runs of a study have measured, as their ``metrics.json`` say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from voxella.evaluation.report import NUMBERS
from voxella.metrics.declared.lookup import number_of
from voxella.metrics.estimate import LEVEL, Estimate
from voxella.study.plan import Step
from voxella.workspace.state import RECORD, DamagedError, StateFile

__all__ = ["Number", "Result", "is_phantom", "read_result"]


class _Imported(TypedDict):
    inputs: dict[str, Any]


_IMPORTS: StateFile[dict[str, Any]] = StateFile(_Imported, "import the data set again")


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
        phantom: Whether its data are procedural ones.
        differs: Why none of its numbers is comparable with the paper's, where the run says so.
    """

    step: Step
    entries: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None
    phantom: bool = False
    differs: str | None = None

    @property
    def status(self) -> str:
        """Return ``finished``, ``failed`` or ``missing``."""
        if self.failure is not None:
            return "failed"
        return "finished" if self.entries else "missing"

    def number(self, metric: str) -> Number:
        """Return a metric of this recipe; one that was not measured says so."""
        entry = self.entries.get(metric)
        paper = self.step.recipe.paper
        key = number_of(metric).paper_key
        published = None if paper is None or key is None else getattr(paper, key, None)
        if entry is None:
            return Number(Estimate.undefined(0, self._absent()), paper=published)
        why_not = self._why_not(entry)
        return Number(
            _estimate(entry), entry.get("network"), why_not is None, why_not, paper=published
        )

    def _absent(self) -> str:
        reasons = {"failed": "the recipe failed", "missing": "not run yet"}
        return reasons.get(self.status, f"not measured by {self.step.until}")

    def _why_not(self, entry: Mapping[str, Any]) -> str | None:
        if entry.get("network") is not None and not entry.get("comparable_with_paper", False):
            return "the features are not of the paper's network"
        if self.phantom:
            return "measured on phantoms, the paper's on patients"
        if not entry.get("comparable_with_paper", True):
            return self.differs or "the run says that they are not comparable"
        return None


def read_result(step: Step, failure: str | None = None) -> Result:
    """Read what a step has measured.

    Without its file the result is empty; so it is after a failure, because a file that is there may
    be of other settings, which is often why the recipe was refused.
    """
    phantom = is_phantom(step)
    if failure is not None:
        return Result(step, failure=failure, phantom=phantom)
    try:
        loaded = NUMBERS.read(step.metrics)
    except DamagedError as damage:
        return Result(step, failure=str(damage), phantom=phantom)
    if loaded is None:
        return Result(step, phantom=phantom)
    differs = loaded.get("not_comparable_with_paper")
    return Result(step, loaded.get("metrics", {}), phantom=phantom, differs=differs)


def is_phantom(step: Step) -> bool:
    """Tell whether a step's data come from the phantom importer, directly or as a data set."""
    data = step.recipe.data
    if data.dataset is None:
        return data.importer is not None and data.importer.name == "phantom"
    record = _IMPORTS.read(Path(data.dataset) / RECORD) or {}
    importer = record.get("inputs", {}).get("importer") or {}
    return bool(importer.get("name") == "phantom")


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
