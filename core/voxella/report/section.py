"""What a page is made of: sections, each with its data, or with the command that would fill it.

What a page says of places on a disk: a path's last part, for folders tell of their owner.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

__all__ = ["Absent", "Section", "command_shown", "shortened", "without_folders"]

# An absolute path within a sentence: of POSIX, of a home folder, of Windows.
_WITHIN = re.compile(r"(?<![\w.])(?:~?(?:/[^\s/:;,'\"()]+){2,}|[A-Za-z]:\\[^\s:;,'\"()]+)/?")
# A path as a word of a command or within a list or mapping of one; it may hold blanks.
_PART = r"(?:[^,\[\]{}\"'=:]|:(?! ))*"
_WORD = re.compile(rf"{_PART}[/\\]{_PART}")


@dataclass(frozen=True)
class Absent:
    """Why a section is empty.

    Attributes:
        why: One sentence.
        command: What makes the data, to be pasted; None where nothing does.
    """

    why: str
    command: str | None = None


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        id: Its anchor.
        title: Its heading.
        template: File below ``templates`` that shows ``data``.
        data: What the template needs.
        absent: In place of data.
    """

    id: str
    title: str
    template: str
    data: Any = None
    absent: Absent | None = None


def shortened(text: str) -> str:
    """Return a sentence in which each absolute path is its last part alone."""
    return _WITHIN.sub(lambda found: _last(found[0]), text)


def without_folders(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return recipe data in which each path is its last part alone."""
    if isinstance(value, dict):
        return {key: without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_folders(inner) for inner in value]
    if not isinstance(value, str):
        return value
    whole = value.startswith(("/", "~/", "\\")) or re.match(r"[A-Za-z]:[\\/]", value)
    return _last(value) if whole else shortened(value)


def command_shown(command: str) -> str:
    """Return a command in which each path, relative ones too, is its last part alone."""
    return shlex.join(_WORD.sub(_last_of, word) for word in shlex.split(command))


def _last_of(found: re.Match[str]) -> str:
    blanks = len(found[0]) - len(found[0].lstrip())
    return found[0][:blanks] + _last(found[0].strip())


def _last(path: str) -> str:
    # Windows' rules know both kinds of slash.
    return f".../{PureWindowsPath(path).name}"
