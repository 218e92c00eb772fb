"""Section "Copies of training cases": shares, thresholds, and the nearest pairs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.case import Case, Manifest
from voxella.case_fields import stored_window
from voxella.data.gate import GATE, GATES
from voxella.evaluation.memorisation import MEMORISATION
from voxella.imaging.montage import montage
from voxella.imaging.shards import is_there
from voxella.report.numbers import shown
from voxella.report.pairs import read_shown
from voxella.report.run_folder import RunFolder
from voxella.report.section import Absent, Section, shortened
from voxella.report.sprites import data_uri

__all__ = ["MemorisedCases", "Space", "memorised_section"]

_TITLES = {"latent": "In latent space", "image": "In image space"}
_PICTURES = 4
_WIDEST = 900
_STRIP = 440.0
_MARGIN = 10.0


@dataclass(frozen=True)
class PairRow:
    """A synthetic case with the training case nearest to it.

    Attributes:
        synthetic: Id.
        training: Id.
        ratio: Written.
        p_value: Written.
        suspected: Nearer than the threshold.
        place: Of the ratio in the drawing.
        picture: Both in three planes; None where a file is gone.
    """

    synthetic: str
    training: str
    ratio: str
    p_value: str
    suspected: bool
    place: float
    picture: str | None


@dataclass(frozen=True)
class Space:
    """One space in which distances were taken.

    Attributes:
        title: For people.
        note: Why there is nothing; None where there is.
        sentences: Shares with their intervals.
        threshold: Written.
        threshold_place: In the drawing.
        one_place: Where a ratio of 1 is in the drawing.
        pairs: The nearest first.
    """

    title: str
    note: str | None
    sentences: list[str]
    threshold: str
    threshold_place: float
    one_place: float
    pairs: list[PairRow]


@dataclass(frozen=True)
class MemorisedCases:
    """The section's data.

    Attributes:
        spaces: In which distances were taken.
        gate: Whether the data set may be handed on, and why; None where nobody asked.
    """

    spaces: list[Space]
    gate: tuple[bool, str] | None


def memorised_section(run: RunFolder) -> Section:
    """Return the section.

    Raises:
        UserError: A volume of a pair cannot be read.
    """
    head = ("copies", "Copies of training cases", "memorised.html")
    found = MEMORISATION.read(run.evaluation / "memorisation.json")
    if found is None:
        why = "Whether synthetic cases are copies of training cases was not examined yet."
        return Section(*head, absent=Absent(why, run.command("evaluate")))
    pictures = _Pictures(run)
    spaces = [_space(name, facts, pictures) for name, facts in found.get("spaces", {}).items()]
    return Section(*head, data=MemorisedCases(spaces, _gate(run)))


def _gate(run: RunFolder) -> tuple[bool, str] | None:
    verdict = GATES.read(run.samples / GATE)
    if verdict is None:
        return None
    share = "unknown" if verdict["share"] is None else _percent(verdict["share"])
    limit = _percent(verdict["limit"])
    return bool(verdict["passed"]), f"copies beyond chance {share}, {limit} at most are let pass"


def _space(name: str, facts: Mapping[str, Any], pictures: _Pictures) -> Space:
    title = _TITLES.get(name, name)
    if "worst" not in facts:
        return Space(
            title, shortened(str(facts.get("note") or "nothing is known")), [], "", 0.0, 0.0, []
        )
    worst = facts["worst"]
    top = 1.05 * max(1.0, *(float(r) for r in (facts["threshold"], *(p["ratio"] for p in worst))))

    def place(ratio: float) -> float:
        return round(_MARGIN + ratio / top * (_STRIP - 2 * _MARGIN), 1)

    rows = [
        PairRow(
            pictures.run.shown(str(pair["synthetic"])),
            pictures.run.shown(str(pair["training"])),
            shown(pair["ratio"]),
            shown(pair["p_value"]),
            bool(pair["suspected"]),
            place(pair["ratio"]),
            pictures.of(pair) if number < _PICTURES else None,
        )
        for number, pair in enumerate(worst)
    ]
    threshold = facts["threshold"]
    return Space(
        title, None, _sentences(facts), shown(threshold), place(threshold), place(1.0), rows
    )


def _sentences(facts: Mapping[str, Any]) -> list[str]:
    told = [
        f"Nearer to a training case than chance brings unseen patients: {_share(facts['share'])}; "
        f"{_percent(facts['false_alarms'])} are to be expected if nothing is copied."
    ]
    if (beyond := facts.get("beyond_chance")) is not None:
        told.append(f"So near that chance is ruled out: {_share(beyond['share'])}.")
    if (own := facts.get("own_source")) is not None:
        told.append(
            "Of those made from a training case's report, nearest to that very case: "
            f"{_share(own)}."
        )
    return told


def _share(estimate: Mapping[str, Any]) -> str:
    if estimate.get("value") is None:
        return f"unknown ({shortened(str(estimate.get('note')))})"
    told = f"{_percent(estimate['value'])} of {estimate['n']}"
    if estimate.get("low") is None:
        return told
    return f"{told} ({_percent(estimate['low'])} to {_percent(estimate['high'])})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


@dataclass(frozen=True)
class _Pictures:
    """Draws pairs, as far as their files are there."""

    run: RunFolder

    def of(self, pair: Mapping[str, Any]) -> str | None:
        """Return synthetic and training case beside each other."""
        sequence = self.run.recipe.evaluate.sequence or self.run.recipe.data.sequences[0]
        left = _path(self.run.synthetic, str(pair["synthetic"]), sequence)
        right = _path(self.run.prepared, str(pair["training"]), sequence)
        if left is None or right is None:
            return None
        volumes = [read_shown(*left), read_shown(right[0], (0.0, 1.0))]
        spacings = [volume.spacing_mm for volume in volumes]
        picture = montage([volume.array for volume in volumes], spacings, columns=2)
        return data_uri(picture, _WIDEST)


def _path(
    cases: Manifest | None, case_id: str, sequence: str
) -> tuple[Path, tuple[float, float]] | None:
    case: Case | None = next((c for c in cases or () if c.id == case_id), None)
    if cases is None or case is None or sequence not in case.images:
        return None
    path = cases.image_path(case, sequence)
    return (path, stored_window(case.extra, sequence)) if is_there(path) else None
