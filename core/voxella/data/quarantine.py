"""``quarantine.json``: the cases that a prepared data set was told to leave out, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from typing_extensions import TypedDict

from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.progress import print_line
from voxella.workspace.state import StateFile

__all__ = ["QUARANTINE", "judge_cases", "print_left_out", "quarantined"]

QUARANTINE = "quarantine.json"


class _Left(TypedDict):
    case: str
    problem: str


_LISTED: StateFile[list[_Left]] = StateFile(
    list[_Left], "rm {path}, then voxella prepare RECIPE --quarantine looks at the cases again"
)


def quarantined(folder: Path) -> set[str]:
    """Return the ids of the cases that a prepared data set was told to leave out.

    Raises:
        DamagedError: They cannot be told.
    """
    return {entry["case"] for entry in _LISTED.read(Path(folder) / QUARANTINE) or []}


def judge_cases(out: Path, problems: Mapping[str, str], *, total: int, quarantine: bool) -> None:
    """Put bad cases in quarantine where that was asked for, or refuse with all of them.

    Args:
        out: The prepared data set.
        problems: What is wrong with each bad case, by its id.
        total: How many cases there are.
        quarantine: Whether they may be left out.

    Raises:
        UserError: They may not, or no case is left.
    """
    listed = out / QUARANTINE
    listed.unlink(missing_ok=True)
    if not problems:
        return
    if not quarantine or len(problems) == total:
        every = len(problems) == total
        rest = "no case is left" if every else "the others are done"
        head = f"{len(problems)} of {total} cases cannot be prepared; {rest}:"
        lines = [f"  case {case}: {problem}" for case, problem in sorted(problems.items())]
        leave_out = "" if every else ", or leave these cases out: --quarantine"
        raise UserError(
            "\n".join([head, *lines]), remedy=f"fix these files and run again{leave_out}"
        )
    rows = [{"case": case, "problem": problem} for case, problem in sorted(problems.items())]
    write_json_atomic(listed, rows)
    print_left_out(out, total)


def print_left_out(out: Path, total: int) -> None:
    """Say how many cases are left out, where some are."""
    if count := len(quarantined(out)):
        print_line(f"warning: {count} of {total} cases left out, see {out / QUARANTINE}")
