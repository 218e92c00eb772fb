"""One thing that a check found: what, where, how bad, and what to do about it.

A kind of finding: its code, how bad it is, what it means and what to do about it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["SEVERITIES", "Finding", "Kind", "Severity"]

Severity = Literal["error", "warning", "note"]
# Worst first: the order in which findings are shown.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, order=True)
class Finding:
    """One problem of a data set. Holds no report text, no patient name, no file content.

    Attributes:
        code: Names the kind of problem, such as ``image.truncated``; stable, for scripts.
        severity: ``error``: a stage would fail or learn something false; ``warning``: look at it;
            ``note``: worth knowing.
        message: What was found, with numbers.
        remedy: One line: what to do.
        case: The case's id; None when the whole data set is meant.
        where: Sequence (``t2w``), a text (``report``), or a character range ``report[120:131]``;
            None when the case as a whole is meant.
    """

    code: str
    severity: Severity
    message: str
    remedy: str
    case: str | None = None
    where: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True)
class Kind:
    """One kind of problem that a check can find.

    Attributes:
        code: Stable name, such as ``image.truncated``.
        severity: The same for every finding of the kind.
        meaning: One line, for the documentation and the report page.
        remedy: One line: what to do.
    """

    code: str
    severity: Severity
    meaning: str
    remedy: str

    def found(self, message: str, *, case: str | None = None, where: str | None = None) -> Finding:
        """Return a finding of this kind."""
        return Finding(self.code, self.severity, message, self.remedy, case, where)
