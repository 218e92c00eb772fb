"""A manifest read to its end: every bad line is a finding, every good one a case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from voxella.case import MANIFEST, Case, Fault, Manifest, read_cases
from voxella.case import relations as faults_between
from voxella.check.catalogue import found
from voxella.check.finding import Finding

__all__ = ["read_leniently", "relations"]


def read_leniently(folder: Path) -> tuple[Manifest, list[Finding]]:
    """Return the cases that can be read, in file order, and what is wrong with the manifest.

    Everything that :meth:`Manifest.read` refuses is an error here: both read by the same function.

    Raises:
        UserError: There is no manifest, or it is longer than the limit.
    """
    cases, faults = read_cases(Path(folder))
    findings = [_finding(fault) for fault in faults]
    if not cases:
        findings.append(found("manifest.empty", f"no case can be read from {MANIFEST}"))
    return Manifest(Path(folder), cases), findings


def relations(cases: Iterable[Case]) -> Iterator[Finding]:
    """Name paths that leave the data set, and all cases of patients who stand in two splits."""
    return map(_finding, faults_between(cases))


def _finding(fault: Fault) -> Finding:
    message = fault.message if fault.line is None else f"line {fault.line}: {fault.message}"
    return found(fault.code, message, case=fault.case, where=fault.where)
