"""The quick check before a stage: said in a few lines, and never a reason to stop.

The stage `prepare` judges by the same rules and refuses what is an error, or puts the case in
quarantine and goes on; so errors are told here and raised there.

The findings on the terminal: one line a kind, worst first, with what to do.

Findings of one kind together: how many, in which cases, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from voxella.case import Manifest
from voxella.check.catalogue import CATALOGUE
from voxella.check.finding import SEVERITIES, Finding, Severity
from voxella.check.quick import quick_check
from voxella.check.settings import CheckSettings
from voxella.progress import print_line
from voxella.terminal import make_console
from voxella.wording import counted, listed

__all__ = ["Group", "grouped", "print_findings", "print_quick_check", "tally"]

_CASES_NAMED = 3

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_CASES_IN_TABLE = 3
# A pipe has no width: rich would take 80 columns.
_PIPE_COLUMNS = 160


def print_quick_check(dataset: Path, settings: CheckSettings) -> list[Finding]:
    """Check manifest and headers, say what errors and warnings there are, and return all findings.

    Raises:
        UserError: As :meth:`Manifest.read`.
    """
    manifest = Manifest.read(dataset)
    findings = quick_check(manifest, settings)
    groups = [group for group in grouped(findings) if group.severity != "note"]
    cases = counted(len(manifest), "case")
    if not groups:
        print_line(f"check: the headers of {cases} show no problem")
        return findings
    print_line(f"check: what the headers of {cases} show (prepare refuses the errors)")
    for group in groups:
        print_line(f"  {_line(group)}")
    print_line(f"  voxella check {dataset} looks at voxels and reports, too")
    return findings


def _line(group: Group) -> str:
    where = f"{counted(len(group.cases), 'case')} ({listed(group.cases, _CASES_NAMED)})"
    return f"{group.severity} {group.code}: {where}: {group.meaning}"


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a table of all findings, grouped by severity."""
    console = make_console(pipe_width=_PIPE_COLUMNS)
    for severity in SEVERITIES:
        groups = [group for group in grouped(findings) if group.severity == severity]
        if groups:
            number = sum(len(group.findings) for group in groups)
            console.print(Text(counted(number, severity).upper(), style=_COLOURS[severity]))
            console.print(_table(groups))


def tally(counts: Mapping[str, int], cases: int) -> str:
    """Return the numbers of findings in one line."""
    numbers = [counted(counts[severity], severity) for severity in SEVERITIES]
    return f"{', '.join(numbers)} in {counted(cases, 'case')}"


def _table(groups: Sequence[Group]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), show_header=False)
    table.add_column(no_wrap=True)
    for _ in range(3):
        table.add_column(overflow="fold")
    for group in groups:
        table.add_row(group.code, _where(group), _what(group), f"-> {group.remedy}")
    return table


def _where(group: Group) -> str:
    cases = group.cases
    if not cases:
        return "data set"
    if len(cases) == 1:
        where = group.findings[0].where
        return cases[0] if where is None else f"{cases[0]} {where}"
    return f"{len(cases)} cases: {listed(cases, _CASES_IN_TABLE)}"


def _what(group: Group) -> str:
    first, *others = group.findings
    return first.message if not others else f"{first.message} ({len(others)} more)"


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
