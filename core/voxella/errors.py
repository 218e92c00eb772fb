"""What the user can fix: one message, no traceback, exit code 2."""

from __future__ import annotations

import warnings

from voxella.wording import visible

__all__ = ["UserError"]


class UserError(Exception):
    """A mistake that the user can fix; the command line prints it and exits with code 2.

    Args:
        problem: What was received and where (file and line where there is one). Never report text.
        expected: What would have been accepted, when that is a short list or range.
        remedy: The next thing to do, best a command that can be pasted.
        legal: The old name of ``expected``.
        legal: The old name of ``expected``.
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str | None = None,
        remedy: str | None = None,
        legal: str | None = None,
    ) -> None:
        if legal is not None:
            warnings.warn("UserError: legal is now expected", DeprecationWarning, stacklevel=2)
            expected = legal if expected is None else expected
        # A name or path may hold what steers a terminal, and a message is printed.
        self.problem = problem = visible(problem)
        self.expected = expected = None if expected is None else visible(expected)
        self.remedy = remedy = None if remedy is None else visible(remedy)
        lines = [problem]
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if remedy is not None:
            lines.append(f"  next:     {remedy}")
        super().__init__("\n".join(lines))

    @property
    def legal(self) -> str | None:
        """Return ``expected`` by its old name."""
        warnings.warn("UserError: legal is now expected", DeprecationWarning, stacklevel=2)
        return self.expected
