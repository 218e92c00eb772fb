"""Many problems of one kind in one line: which cases, and not one line each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from voxella.errors import UserError
from voxella.imaging.headers import check_image_file
from voxella.wording import listed

__all__ = ["Problems", "image_problem", "spans"]


class Problems:
    """Problems of cases by kind, in the order in which kinds were first met."""

    def __init__(self) -> None:
        self._cases: dict[str, list[str]] = {}

    def add(self, case: str, kind: str) -> None:
        """Note that a case has a problem; ``kind`` is worded so that it holds for many."""
        cases = self._cases.setdefault(kind, [])
        if case not in cases:
            cases.append(case)

    @property
    def cases(self) -> set[str]:
        """Return the ids of the cases that have a problem."""
        return {case for cases in self._cases.values() for case in cases}

    def lines(self) -> list[str]:
        """Return one line a kind: the problem, how many cases have it, and which."""
        return [
            f"  {kind}: {len(cases)} ({spans(sorted(cases))})"
            for kind, cases in self._cases.items()
        ]


def image_problem(name: str, path: Path) -> str | None:
    """Return what is wrong with an image file, worded without its path; None: nothing is."""
    # Also False of a name that is too long or holds NUL, where Path.exists raises.
    if not os.path.exists(path):
        return f"no {name}"
    try:
        check_image_file(path)
    except UserError as error:
        return f"{name}: {error.problem.removeprefix(f'{path}: ')}"
    return None


def spans(ids: Sequence[str]) -> str:
    """List ids for a message: runs of whole numbers as ``020-024``, fifty items at most."""
    runs: list[tuple[str, str]] = []
    for name in ids:
        if runs and _follows(runs[-1][1], name):
            runs[-1] = (runs[-1][0], name)
        else:
            runs.append((name, name))
    items = [first if first == last else f"{first}-{last}" for first, last in runs]
    return listed(items)


def _follows(last: str, name: str) -> bool:
    whole = last.isdecimal() and name.isdecimal() and len(last) <= len(name)
    return whole and int(name) == int(last) + 1
