"""Patients who may be one: ids that differ in case, padding, parting or Unicode form only."""

from __future__ import annotations

from collections.abc import Sequence

from voxella.case import Case
from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding
from voxella.texts.ids import alike, id_problem
from voxella.texts.placeholders import is_nothing

__all__ = ["check_alike"]


def check_alike(cases: Sequence[Case]) -> list[Finding]:
    """Name the cases of patients whose ids are alike, or hold what cannot be seen.

    The patients are not named: some hospitals' numbers identify.
    """
    findings = []
    for group in alike(case.patient for case in cases):
        members = [case for case in cases if case.patient in group]
        splits = sorted({case.split for case in members})
        first, *others = sorted(case.id for case in members)
        named = ", ".join(others[:8]) + (", ..." if len(others) > 8 else "")
        where = f", over the splits {', '.join(splits)}" if len(splits) > 1 else ""
        problem = (
            f"its patient's id is like those of {len(group) - 1} other patients{where}: {named}"
        )
        findings.append(text_finding("patient.alike", problem, first))
    for case in cases:
        wrong = id_problem(case.patient)
        if is_nothing(case.patient):
            # By the letter, all whose patient nobody knows are one.
            wrong = "says nothing (empty, nan, N/A, - or the like); give each patient one"
        if wrong is not None:
            findings.append(text_finding("patient.form", f"its patient's id {wrong}", case.id))
    return findings
