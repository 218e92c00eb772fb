"""How the classes fall over splits and sites, as numbers and as findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from voxella.case import Case, Split
from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding

__all__ = ["balance", "check_balance", "site_of"]

# Beside the classes: no label, and a label that is no class (which is not shown).
UNLABELLED, OTHER = "unlabelled", "other"
_SPLITS: tuple[str, ...] = get_args(Split)
_SITE_KEYS = ("site", "center", "centre")
_RARE = 0.1
# Fewer labelled cases of one class are likely to be chance.
_SITE_CASES = 10
# A longer "site" is rather free text in the wrong column.
_LONGEST_SITE = 40


def site_of(case: Case) -> str:
    """Return where a case comes from by ``extra`` (``site`` or ``center``); "" where not given."""
    given = next((case.extra[key] for key in _SITE_KEYS if case.extra.get(key)), "")
    name = str(given).strip()
    return name if len(name) <= _LONGEST_SITE else "(long text)"


def balance(cases: Iterable[Case], classes: Sequence[str] = ()) -> dict[str, Any]:
    """Count cases by split, site and class.

    Args:
        cases: The cases.
        classes: The classes, in order; without them, every label that occurs.

    Returns:
        ``{"classes": [...], "all": table, "splits": {split: table}, "sites": {site: table},
        "splits_by_site": {split: {site: table}}}``, where a table is ``{"cases": n, "labels":
        {class: n, "other": n, "unlabelled": n}}``, ``other`` being labels that are no class.
        JSON-ready; splits in their usual order, only those that have cases; sites sorted, without
        cases that name none.
    """
    cases = list(cases)
    names = list(classes) or sorted({case.label for case in cases if case.label is not None})
    splits = [split for split in _SPLITS if any(case.split == split for case in cases)]
    sites = sorted({site_of(case) for case in cases} - {""})

    def table(chosen: list[Case]) -> dict[str, Any]:
        labels = {name: sum(case.label == name for case in chosen) for name in names}
        labels[UNLABELLED] = sum(case.label is None for case in chosen)
        labels[OTHER] = len(chosen) - sum(labels.values())
        return {"cases": len(chosen), "labels": labels}

    by_split = {split: [case for case in cases if case.split == split] for split in splits}
    return {
        "classes": names,
        "all": table(cases),
        "splits": {split: table(chosen) for split, chosen in by_split.items()},
        "sites": {site: table([c for c in cases if site_of(c) == site]) for site in sites},
        "splits_by_site": {
            split: {site: table([c for c in chosen if site_of(c) == site]) for site in sites}
            for split, chosen in by_split.items()
        },
    }


def check_balance(cases: Sequence[Case], classes: Sequence[str]) -> list[Finding]:
    """Note the counts of every split; warn of missing and rare classes and of one-class sites."""
    counted = balance(cases, classes)
    findings: list[Finding] = []
    for split, table in counted["splits"].items():
        findings.append(_note(split, table, counted["splits_by_site"][split]))
        findings += _lacking(split, table["labels"], classes)
    for site, table in counted["sites"].items():
        findings += _one_class(site, table["labels"], classes)
    return findings


def _note(split: str, table: dict[str, Any], sites: dict[str, dict[str, Any]]) -> Finding:
    text = f"{split}: {table['cases']} cases, {_listed(table['labels'])}"
    parts = [f"{site}: {_listed(found['labels'])}" for site, found in sites.items()]
    return text_finding("split.balance", "; ".join([text, *parts]))


def _listed(labels: dict[str, int]) -> str:
    extra = (UNLABELLED, OTHER)
    shown = [f"{count} {name}" for name, count in labels.items() if count or name not in extra]
    return ", ".join(shown)


def _lacking(split: str, labels: dict[str, int], classes: Sequence[str]) -> list[Finding]:
    labelled = sum(labels[name] for name in classes)
    findings = []
    for name in classes if labelled else ():
        if not labels[name]:
            problem = f"split {split} has no {name} case among {labelled} labelled"
            findings.append(text_finding("split.class-missing", problem))
        elif labels[name] < _RARE * labelled:
            share = labels[name] / labelled
            problem = f"split {split}: {labels[name]} of {labelled} cases are {name} ({share:.1%})"
            findings.append(text_finding("split.class-rare", problem))
    return findings


def _one_class(site: str, labels: dict[str, int], classes: Sequence[str]) -> list[Finding]:
    present = [name for name in classes if labels[name]]
    if len(classes) < 2 or len(present) != 1 or labels[present[0]] < _SITE_CASES:
        return []
    problem = f"all {labels[present[0]]} labelled cases of site {site} are {present[0]}"
    return [text_finding("site.one-class", problem)]
