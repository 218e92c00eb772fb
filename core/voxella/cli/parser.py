"""The parser of the command line: a mistake in it is told, and no sentence in it repeated.

A report that was pasted unquoted arrives as many words, one in quotes as a single one.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from voxella.terminal import complain
from voxella.wording import why_no_code, without_sentences

__all__ = ["Parser"]

_MISTAKE = 2


class Parser(argparse.ArgumentParser):
    """A parser, and all below it.

    Args:
        words: Of the command line.
        options: As argparse's.
    """

    def __init__(self, *, words: Sequence[str] = (), **options: Any) -> None:  # noqa: ANN401 - as argparse has them
        super().__init__(**options)
        self._words = tuple(words)

    def add_subparsers(self, **options: Any) -> Any:  # noqa: ANN401 - argparse's class is private
        """Add verbs, whose mistakes are told in the same way."""
        options.setdefault("parser_class", functools.partial(type(self), words=self._words))
        return super().add_subparsers(**options)

    def parse(self) -> argparse.Namespace:
        """Return the options of the words; end the command where they make no sense."""
        found, more = self.parse_known_args(self._words)
        if more:
            told = " ".join(more)
            if why_no_code(told) is not None:
                told = f"{len(more)} words (a value with blanks in it needs quotes)"
            self.error(f"unrecognized arguments: {told}")
        return found

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end with the exit code of a mistake."""
        self.print_usage(sys.stderr)
        complain(f"{self.prog}: error: {without_sentences(message, self._words)}")
        self.exit(_MISTAKE)
