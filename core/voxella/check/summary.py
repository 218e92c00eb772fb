"""Findings of one kind together: how many, in which cases, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from voxella.check.catalogue import CATALOGUE
from voxella.check.finding import SEVERITIES, Finding, Severity

__all__ = ["Group", "counted", "grouped", "some"]


@dataclass(frozen=True)
class Group:
    """All findings of one kind.

    Attributes:
        code: The kind.
        severity: Of all of them.
        findings: At least one.
    """

    code: str
    severity: Severity
    findings: tuple[Finding, ...]

    @property
    def cases(self) -> list[str]:
        """Return the cases concerned, each once."""
        return list(dict.fromkeys(f.case for f in self.findings if f.case is not None))

    @property
    def remedy(self) -> str:
        """Return what to do."""
        return self.findings[0].remedy

    @property
    def meaning(self) -> str:
        """Return what findings of this kind are."""
        return CATALOGUE[self.code].meaning


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """Return findings by kind: worst first, then by code."""
    groups: dict[tuple[int, str], list[Finding]] = {}
    for finding in findings:
        key = (SEVERITIES.index(finding.severity), finding.code)
        groups.setdefault(key, []).append(finding)
    return [
        Group(code, SEVERITIES[rank], tuple(groups[rank, code])) for rank, code in sorted(groups)
    ]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where there is not one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def some(names: list[str], most: int) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
