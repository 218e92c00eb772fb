"""What is wrong with a manifest, said without quoting any of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from voxella.case.model import Case

__all__ = ["Fault", "relations"]


@dataclass(frozen=True)
class Fault:
    """Something wrong with a manifest; what is said never quotes it.

    Attributes:
        code: Its kind, of :data:`voxella.check.catalogue.CATALOGUE`.
        message: What was found.
        line: Where, from 1; None for what lies between cases.
        case: Id of the case, where there is a sound one.
        where: The image or field, of a path.
    """

    code: str
    message: str
    line: int | None = None
    case: str | None = None
    where: str | None = None

    def told(self, path: Path) -> str:
        """Return file, line and what was found."""
        line = "" if self.line is None else f":{self.line}"
        case = "" if self.case is None else f" case {self.case}:"
        return f"{path}{line}:{case} {self.message}"


def relations(cases: Iterable[Case]) -> Iterator[Fault]:
    """Name paths that leave the data set, and all cases of groups that stand in two splits."""
    cases = list(cases)
    splits: dict[str, set[str]] = {}
    for case in cases:
        splits.setdefault(case.group, set()).add(case.split)
        yield from _paths(case)
    for case in cases:
        if others := splits[case.group] - {case.split}:
            # The group is not named: some hospitals' numbers identify.
            named = ", ".join(sorted(others))
            message = f"in {case.split}, and its group (patient) has other cases in {named}"
            yield Fault("split.patient", message, case=case.id)


def _paths(case: Case) -> Iterator[Fault]:
    truth = [] if case.truth is None else [("truth", case.truth)]
    for where, relative in [*case.images.items(), *case.texts.items(), *truth]:
        if os.path.isabs(relative):
            continue
        if ".." in Path(relative).parts:
            message = "its path has '..' in it"
            yield Fault("manifest.path", message, case=case.id, where=where)
