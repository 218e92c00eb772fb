"""What keeps an image from being used: one message, and the code that `voxella check` knows it by.

Reading and preparing raise it, the check reports it, so both judge by the same rules.
"""

from __future__ import annotations

from voxella.errors import UserError

__all__ = ["ImageError", "Problem"]

# Code and message; the message names neither file nor sequence.
Problem = tuple[str, str]


class ImageError(UserError):
    """An image that cannot be used.

    Args:
        problem: What was found, and in which file or sequence.
        code: The kind of finding, a key of :data:`voxella.check.catalogue.CATALOGUE`.
        legal: What would have been accepted.
        remedy: The next thing to do.
    """

    # A default, because exceptions travel between processes by their message alone.
    def __init__(
        self,
        problem: str,
        *,
        code: str = "image.unreadable",
        legal: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem, legal=legal, remedy=remedy)
        self.code = code
