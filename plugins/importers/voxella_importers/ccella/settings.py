"""The ``ccella`` importer's arguments, checked before a list is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxella.texts.encodings import encoding_problem
from voxella.wording import quoted
from voxella_importers.ccella.lists import KEYS

__all__ = ["CcellaSettings"]


@dataclass(frozen=True)
class CcellaSettings:
    """The builder's arguments, see :func:`voxella_importers.ccella.plugin.ccella`."""

    source: Path
    images: Path | None
    labels: Path | None
    sheet: str | None
    sequences: tuple[str, ...]
    classes: tuple[str, ...]
    resplit: bool
    skip_bad: bool
    encoding: str | None = None
    visible_only: bool = False

    def problems(self) -> list[str]:
        """Return what is wrong with these settings."""
        found = [
            f"sequences: {quoted(name)} is none of {', '.join(KEYS)}"
            for name in self.sequences
            if name not in KEYS
        ]
        if not self.sequences:
            found.append("sequences: at least one is needed")
        if len(self.classes) != 2:
            found.append(f"classes: the lists have two, not {len(self.classes)}")
        return found + [p for p in (encoding_problem(self.encoding),) if p]
