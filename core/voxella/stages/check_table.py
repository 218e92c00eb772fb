"""The findings on the terminal: one line a kind, worst first, with what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from voxella.check.finding import SEVERITIES, Finding
from voxella.check.summary import Group, counted, grouped, some
from voxella.terminal import make_console

__all__ = ["print_findings", "tally"]

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_CASES_NAMED = 3
# A pipe has no width: rich would take 80 columns.
_PIPE_COLUMNS = 160


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
    return f"{len(cases)} cases: {some(cases, _CASES_NAMED)}"


def _what(group: Group) -> str:
    first, *others = group.findings
    return first.message if not others else f"{first.message} ({len(others)} more)"
