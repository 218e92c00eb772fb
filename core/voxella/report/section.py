"""What a page is made of: sections, each with its data, or with the command that would fill it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Absent", "Section"]


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
