"""Section "Data card": who is in the data sets, and how volumes were prepared and made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from voxella.case import Case, Manifest
from voxella.check.balance import balance
from voxella.report.numbers import shown
from voxella.report.run_folder import RunFolder
from voxella.report.section import Absent, Section
from voxella.wording import counted

__all__ = ["DataCard", "data_section"]

_MOST_SITES = 12
_MADE_BY = ("sampler", "steps", "guidance", "seed", "space", "int16_scale")


@dataclass(frozen=True)
class DataCard:
    """The section's data.

    Attributes:
        classes: Headings of the label columns.
        rows: By heading: name of a split or site, cases, then one count for each class.
        real: Name and value of facts of the real cases.
        synthetic: The same of the synthetic ones; empty without any.
    """

    classes: list[str]
    rows: dict[str, list[tuple[str, int, list[int]]]]
    real: list[tuple[str, str]]
    synthetic: list[tuple[str, str]]


def data_section(run: RunFolder) -> Section:
    """Return the section."""
    head = ("data", "Data card", "data_card.html")
    cases = run.prepared or run.dataset
    if cases is None:
        return Section(*head, absent=Absent("No case was prepared yet.", run.command("prepare")))
    table = balance(cases, run.recipe.data.classes)
    classes = list(table["classes"])
    classes += [k for k in ("unlabelled", "other") if table["all"]["labels"][k]]
    splits = {**table["splits"], "all": table["all"]}
    rows = {"By split": [_row(name, found, classes) for name, found in splits.items()]}
    if 0 < len(table["sites"]) <= _MOST_SITES:
        sites = table["sites"].items()
        rows["By site"] = [_row(name, found, classes) for name, found in sites]
    return Section(*head, data=DataCard(classes, rows, _real(run, cases), _synthetic(run)))


def _row(name: str, found: dict[str, Any], classes: list[str]) -> tuple[str, int, list[int]]:
    return name, found["cases"], [found["labels"][label] for label in classes]


def _real(run: RunFolder, cases: Manifest) -> list[tuple[str, str]]:
    importer = (run.records.get("import") or {}).get("inputs", {}).get("importer") or {}
    recipe = run.recipe
    reports = sum(bool(case.texts_sha256) for case in cases)
    patients = len({case.group for case in cases})
    sources = Counter(case.label_source for case in cases if case.label_source)
    facts = [
        ("Imported by", str(importer.get("name") or "an earlier import")),
        ("Patients", str(patients)),
        ("With a report", f"{reports} of {len(cases)}"),
        ("Labels from", ", ".join(f"{name} ({n})" for name, n in sources.items()) or "nothing"),
        ("Sequences", ", ".join(recipe.data.sequences)),
        ("Grid", f"{' x '.join(map(str, recipe.prepare.size))} voxels"),
        ("Voxel edges", _edges(cases)),
    ]
    counts = (run.records.get("prepare") or {}).get("facts", {})
    facts += [
        (told, counted(counts[key], "case"))
        for key, told in (
            ("quarantined", "Left out"),
            ("padded", "Padded at the border"),
            ("oblique", "Oblique scans"),
        )
        if counts.get(key)
    ]
    return facts


def _written(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return f"{value:g}" if isinstance(value, float) else str(value)


def _edges(cases: Iterable[Case]) -> str:
    known = [case.extra["spacing_mm"] for case in cases if case.extra.get("spacing_mm")]
    if not known:
        return "not recorded"
    ranges = [(min(edges), max(edges)) for edges in zip(*known, strict=True)]
    told = [shown(a) if shown(a) == shown(b) else f"{shown(a)}-{shown(b)}" for a, b in ranges]
    return f"{' x '.join(told)} mm (R, A, S)"


def _synthetic(run: RunFolder) -> list[tuple[str, str]]:
    if run.synthetic is None or not len(run.synthetic):
        return []
    cases = run.synthetic.cases
    sources = len({case.extra.get("source_case", case.id) for case in cases})
    splits = Counter(case.split for case in cases)
    labels = Counter(case.label or "no label" for case in cases)
    facts = [
        ("Cases", f"{len(cases)}, from {sources} reports"),
        ("Reports of the split", ", ".join(f"{name} ({n})" for name, n in splits.items())),
        ("Labels", ", ".join(f"{name} ({n})" for name, n in sorted(labels.items()))),
    ]
    predicted = [c for c in cases if c.extra.get("predicted_label") and c.label is not None]
    if predicted:
        same = sum(case.extra["predicted_label"] == case.label for case in predicted)
        facts.append(("Text head agrees with the label", f"{same} of {len(predicted)}"))
    made = cases[0].extra
    facts += [
        (key.replace("_", " ").capitalize(), _written(made[key]))
        for key in _MADE_BY
        if made.get(key) is not None
    ]
    if made.get("model"):
        facts.append(("Model weights, SHA-256", str(made["model"])[:16]))
    return facts
