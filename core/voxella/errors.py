"""What the user can mend: one message, no traceback, exit code 2."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it and exits with code 2.

    Args:
        problem: What was received and where (file and line where there is one). Never report text.
        legal: What would have been accepted, when that is a short list or range.
        remedy: The next thing to do, best a command that can be pasted.
    """

    def __init__(
        self, problem: str, *, legal: str | None = None, remedy: str | None = None
    ) -> None:
        self.problem = problem
        self.legal = legal
        self.remedy = remedy
        lines = [problem]
        if legal is not None:
            lines.append(f"  legal: {legal}")
        if remedy is not None:
            lines.append(f"  next:  {remedy}")
        super().__init__("\n".join(lines))
