"""What the user can mend: one message, no traceback, exit code 2."""

from __future__ import annotations

from voxella.wording import visible

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
        # A name or path may hold what steers a terminal, and a message is printed.
        self.problem = problem = visible(problem)
        self.legal = legal = None if legal is None else visible(legal)
        self.remedy = remedy = None if remedy is None else visible(remedy)
        lines = [problem]
        if legal is not None:
            lines.append(f"  legal: {legal}")
        if remedy is not None:
            lines.append(f"  next:  {remedy}")
        super().__init__("\n".join(lines))
