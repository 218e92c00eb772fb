"""What is wrong with a manifest, said without quoting any of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from voxella.case.model import LONGEST_ID, Case

__all__ = ["Fault", "case_of", "paths", "relations"]

_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.\-]{{0,{LONGEST_ID - 1}}}")


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


def case_of(entry: Mapping[str, Any], number: int, faults: list[Fault]) -> Case | None:
    """Return the case that a manifest's entry holds; else None, and what is wrong is added.

    Args:
        entry: By field.
        number: Its line or row, from 1.
        faults: Where what is wrong goes.
    """
    try:
        return Case.model_validate(entry)
    except ValidationError as error:
        given = entry.get("id")
        sound = given if isinstance(given, str) and _ID.fullmatch(given) else None
        for item in error.errors(include_input=False, include_url=False):
            # Only the field's own name: what stands in a wrong place may be anything.
            name = str(item["loc"][0])
            known = name if name in Case.model_fields else "a field that no case has"
            message = str(item["msg"]).removeprefix("Value error, ")
            faults.append(Fault("manifest.field", f"{known}: {message}", number, sound))
    return None


def relations(cases: Iterable[Case]) -> Iterator[Fault]:
    """Name paths that leave the data set, and all cases of groups that stand in two splits."""
    cases = list(cases)
    splits: dict[str, set[str]] = {}
    for case in cases:
        splits.setdefault(case.group, set()).add(case.split)
        yield from paths(case)
    for case in cases:
        if others := splits[case.group] - {case.split}:
            # The group is not named: some hospitals' numbers identify.
            named = ", ".join(sorted(others))
            message = f"in {case.split}, and its group (patient) has other cases in {named}"
            yield Fault("split.patient", message, case=case.id)


def paths(case: Case) -> Iterator[Fault]:
    """Name the paths of a case that leave the data set."""
    truth = [] if case.truth is None else [("truth", case.truth)]
    for where, relative in [*case.images.items(), *case.texts.items(), *truth]:
        if os.path.isabs(relative):
            continue
        if ".." in Path(relative).parts:
            message = "its path has '..' in it"
            yield Fault("manifest.path", message, case=case.id, where=where)
