"""The one way to the terminal: nothing that a user's name, label or path holds acts on it.

Brackets are no markup, colons no emoji, and control characters are spelled out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from voxella.wording import visible

__all__ = ["complain", "make_console", "print_line", "silent"]

# Of this thread: what works for a page has no terminal of its own.
_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


class _PlainConsole(Console):
    """A console whose texts are all plain: only styles that the program gives are applied."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield segments; what moves the cursor is the bar's own and stays."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


def make_console(
    *, stderr: bool = False, width: int | None = None, pipe_width: int | None = None
) -> Console:
    """Return a console for stdout, or for stderr.

    Args:
        stderr: Print there.
        width: Columns; None: the terminal's.
        pipe_width: Columns where it is no terminal: a pipe has none, and rich would take 80.
    """

    def made(columns: int | None) -> Console:
        return _PlainConsole(
            stderr=stderr,
            width=columns,
            markup=False,
            emoji=False,
            highlight=False,
            quiet=_SILENT.get(),
        )

    console = made(width)
    return console if pipe_width is None or console.is_terminal else made(pipe_width)


@contextmanager
def silent() -> Iterator[None]:
    """Print nothing from this thread, but for what is complained about."""
    before = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(before)


def print_line(line: str, *, quiet: bool = False) -> None:
    """Print one line, as it is: nothing in it is markup, nothing is wrapped or coloured."""
    if not quiet:
        make_console().print(line, soft_wrap=True)


def complain(line: str) -> None:
    """Print lines to stderr at once."""
    print(visible(line), file=sys.stderr, flush=True)
