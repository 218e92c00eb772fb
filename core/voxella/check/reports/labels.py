"""Labels against the classes, against the table's PI-RADS and ISUP, and against the report.

A label is never changed. It is held to the source that it names: a label from ISUP is not wrong
because the images, or the report about them, say something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voxella.case import Case
from voxella.case.texts import split_text_id
from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding
from voxella.check.pirads.reader import POSITIVE_FROM, read_pirads
from voxella.check.reports.files import report_range
from voxella.texts.placeholders import is_nothing

__all__ = ["check_labels", "check_labels_against_reports"]

# Keys of ``extra``, letters only: importers and tables write them in many ways.
_PIRADS_KEYS = ("pirads", "lesionpirads", "casepirads", "maxpirads", "piradsscore")
_ISUP_KEYS = ("isup", "caseisup", "lesionisup", "isupgrade", "maxisup")
_SIGNIFICANT_ISUP = 2


@dataclass(frozen=True)
class _Facts:
    """The table's scores of a case, None where not given; ``bad`` names those out of range."""

    pirads: int | None
    isup: int | None
    bad: tuple[str, ...]


def check_labels(
    cases: Sequence[Case], classes: Sequence[str], positive: str | None = None
) -> list[Finding]:
    """Find missing and unknown labels, and those that the table's own scores contradict.

    Args:
        cases: The cases.
        classes: The allowed classes.
        positive: The class that PI-RADS and ISUP speak of. None: of two classes the second, or the
            one that is called so; of another number of classes none, and nothing is compared.
    """
    findings: list[Finding] = []
    without = [case for case in cases if case.label is None]
    if without and len(without) == len(cases):
        findings.append(text_finding("label.missing", f"none of {len(cases)} cases has a label"))
    else:
        findings += [text_finding("label.missing", "has no label", case.id) for case in without]
    for case in cases:
        if case.label is not None and case.label not in classes:
            # The label itself is not shown: it may be free text from the wrong column.
            problem = f"its label is none of {', '.join(classes)}"
            findings.append(text_finding("label.unknown", problem, case.id))
        findings += _against_table(case, classes, positive)
    return findings


def check_labels_against_reports(
    cases: Sequence[Case],
    texts: Mapping[str, str],
    classes: Sequence[str],
    named: str | None = None,
) -> list[Finding]:
    """Find labels that the report contradicts, where it can be read for certain; count readings.

    Cases whose label comes from ISUP are left out: their report speaks of the images.
    """
    if (len(classes) != 2 and named is None) or not texts:
        return []
    labels = {case.id: case for case in cases}
    findings: list[Finding] = []
    certain = 0
    for name, text in texts.items():
        reading = read_pirads(text)
        case = labels[split_text_id(name)[0]]
        positive = _positive(case, classes, named)
        if reading.positive is None:
            continue
        certain += 1
        if positive is None or positive == reading.positive or _source(case) == "isup":
            continue
        place = next(score for score in reading.scores if score.value == reading.highest)
        said = f"{POSITIVE_FROM} or more" if reading.positive else f"below {POSITIVE_FROM}"
        problem = (
            f"the label is {case.label}, but the report's highest PI-RADS category seems "
            f"to be {said}"
        )
        where = report_range(place.start, place.end)
        findings.append(text_finding("label.report", problem, name, where))
    problem = (
        f"PI-RADS could be read for certain from {certain} of {len(texts)} reports; "
        f"{len(findings)} labels are against it"
    )
    return [*findings, text_finding("report.pirads", problem)]


def _against_table(case: Case, classes: Sequence[str], named: str | None) -> list[Finding]:
    facts = _facts(case)
    findings = [
        text_finding("label.value", f"its {name} in the table is out of range", case.id)
        for name in facts.bad
    ]
    positive = _positive(case, classes, named)
    if positive is None:
        return findings
    by_pirads = None if facts.pirads is None else facts.pirads >= POSITIVE_FROM
    by_isup = None if facts.isup is None else facts.isup >= _SIGNIFICANT_ISUP
    contradicted = _contradicted(case, positive, by_pirads, by_isup)
    if contradicted is not None:
        shown = [f"PI-RADS {facts.pirads}"] if facts.pirads is not None else []
        shown += [f"ISUP {facts.isup}"] if facts.isup is not None else []
        problem = f"the label is {case.label}{contradicted}, the table has {', '.join(shown)}"
        findings.append(text_finding("label.table", problem, case.id))
    elif by_pirads is False and by_isup is True:
        problem = f"ISUP {facts.isup} with PI-RADS {facts.pirads}; the label is {case.label}"
        findings.append(text_finding("label.grade", problem, case.id))
    return findings


def _contradicted(
    case: Case, positive: bool, by_pirads: bool | None, by_isup: bool | None
) -> str | None:
    """Return how the label's source is told where the label contradicts it, else None.

    A label of another source agrees when either score gives it.
    """
    by_source = {"pirads": by_pirads, "isup": by_isup}.get(_source(case))
    if by_source is not None:
        return None if by_source == positive else f" by {_source(case)}"
    given = [known for known in (by_pirads, by_isup) if known is not None]
    return None if not given or positive in given else ""


def _source(case: Case) -> str:
    """Return the label's source in letters only: ``pirads``, ``isup`` or another."""
    return re.sub(r"[^a-z]", "", (case.label_source or "").lower())


def _positive(case: Case, classes: Sequence[str], named: str | None) -> bool | None:
    """Return whether the label is the positive class; None without such a class, or a label."""
    if case.label not in classes:
        return None
    if named is not None:
        return case.label == named
    if len(classes) != 2:
        return None
    # The recipe's order is negative first; the names decide where they say otherwise.
    reverse = str(classes[0]).lower() == "positive" or str(classes[1]).lower() == "negative"
    return (case.label == classes[1]) != reverse


def _facts(case: Case) -> _Facts:
    pirads, good_pirads = _score(case, _PIRADS_KEYS, 1)
    isup, good_isup = _score(case, _ISUP_KEYS, 0)
    bad = [name for name, good in (("PI-RADS", good_pirads), ("ISUP", good_isup)) if not good]
    return _Facts(pirads, isup, tuple(bad))


def _score(case: Case, keys: Sequence[str], lowest: int) -> tuple[int | None, bool]:
    """Return the highest score under one of the keys, and whether all of them are allowed.

    A value may be a number, or a list of a case's lesions such as ``"4,N/A,3"``.
    """
    for key, value in case.extra.items():
        if re.sub(r"[^a-z]", "", key.lower()) not in keys or value is None:
            continue
        values = value if isinstance(value, list) else re.split(r"[,;\s]+", str(value))
        parts = [str(part).strip().removesuffix(".0") for part in values]
        # PI-RADS X: a scan that could not be judged
        given = [part for part in parts if not is_nothing(part) and part.upper() != "X"]
        allowed = [int(part) for part in given if part.isdigit() and lowest <= int(part) <= 5]
        return max(allowed, default=None), len(allowed) == len(given)
    return None, True
