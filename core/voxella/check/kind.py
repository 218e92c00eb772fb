"""A kind of finding: its code, how bad it is, what it means and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from voxella.check.finding import Finding, Severity

__all__ = ["Kind"]


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
