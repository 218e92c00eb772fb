"""The command that is running, for the records of what it makes.

Known only inside a call of the command line's ``main``: a script that calls a stage itself has an
argument vector that says nothing about it.
"""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path

from voxella.wording import MOST_WORDS, shown_path

__all__ = ["LEFT_OUT", "command_line", "running", "versions"]

LEFT_OUT = "(left out)"
_WORDS: ContextVar[tuple[str, ...] | None] = ContextVar("_WORDS", default=None)
# KEY=VALUE, also behind an option: --set=KEY=VALUE.
_SETTING = re.compile(r"((?:--[\w-]+=)?[\w.]+)=(.*)", re.DOTALL)
# Two words of letters with nothing but a blank between them: somebody's sentence.
_PROSE = re.compile(r"[^\W\d_]{2,}[.,;:!?]?\s+[^\W\d_]{2,}")
_PATH = re.compile(r"~|\.{0,2}[\\/]|[A-Za-z]:[\\/]")
# No setting is as long; in some scripts a sentence has no blanks.
_LONGEST = 200


@contextmanager
def running(words: Sequence[str]) -> Iterator[None]:
    """Let records know the command, given as its words after ``voxella``."""
    before = _WORDS.set(tuple(words))
    try:
        yield
    finally:
        _WORDS.reset(before)


def command_line() -> str | None:
    """Return the running command as a shell would take it, or None outside of one.

    Values of ``--set`` that hold a sentence are left out, and so are other words that do and are
    no path that is there: a record holds no free text. Neither is what ``--report`` gives, of
    however few words.
    """
    words = _WORDS.get()
    if words is None:
        return None
    told = ["voxella"]
    for before, word in pairwise(("", *words)):
        option, equals, _ = word.partition("=")
        if _is_report(before):
            told.append(LEFT_OUT)
        elif equals and _is_report(option):
            told.append(f"{option}={LEFT_OUT}")
        else:
            told.append(_without_prose(word))
    return shlex.join(told)


def _is_report(option: str) -> bool:
    # Options may be abbreviated.
    return len(option) > len("--") and "--report".startswith(option)


def _without_prose(word: str) -> str:
    found = _SETTING.fullmatch(word)
    if found is None and shown_path(word, most_words=MOST_WORDS) != str(Path(word)):
        return LEFT_OUT
    if found is None or _PATH.match(found[2]):
        return word
    told = len(found[2]) > _LONGEST or _PROSE.search(found[2]) is not None
    return f"{found[1]}={LEFT_OUT}" if told else word


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a result, without importing them."""
    found = {"python": platform.python_version()}
    for package in ("voxella", "torch", "deepspeed", "monai", "transformers", "SimpleITK", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
