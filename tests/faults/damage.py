"""One damaged file of a finished run, then the next command: what comes of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.cli import main
from voxella.workspace import state

__all__ = ["KINDS", "Outcome", "call", "copy_run", "damage", "damaged_trial", "own_files"]

# What no command reads again: pictures and pages to look at.
_FOR_PEOPLE = {".png", ".html"}


def _wrong_types(data: bytes, dice: random.Random) -> bytes:
    """Every number a word, every word a number, every list an object and the other way round."""

    def turned(value: Any) -> Any:
        match value:
            case dict():
                return {key: turned(item) for key, item in value.items() if key != "seal"}
            case list():
                return {str(number): turned(item) for number, item in enumerate(value)}
            case str():
                return 7
            case None:
                return []
            case _:
                return "seven"

    try:
        lines = data.decode().splitlines() if b"}\n{" in data else [data.decode()]
        return "\n".join(json.dumps(turned(json.loads(line))) for line in lines).encode()
    except ValueError:
        return b'{"a": 1}'


def _flipped(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "emptied": lambda data, dice: b"",
    "cut": lambda data, dice: data[: len(data) // 2],
    "flipped": _flipped,
    "list": lambda data, dice: b"[]",
    "object": lambda data, dice: b"{}",
    "null": lambda data, dice: b"null",
    "types": _wrong_types,
    "binary": lambda data, dice: dice.randbytes(257),
}


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        code: Exit code; None: an exception, which a user would see as a traceback.
        said: Both streams.
    """

    code: int | None
    said: str

    @property
    def is_told(self) -> bool:
        """Return whether it ended well, or with one message of ours."""
        return self.code in (0, 2) and "Traceback" not in self.said


def call(words: Sequence[str]) -> Outcome:
    """Run a command in this process."""
    state._told.clear()  # as in a process of its own
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code: int | None = main(list(words))
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            traceback.print_exc(file=said)
            code = None
    return Outcome(code, said.getvalue())


def own_files(run: Path) -> list[str]:
    """Return the files that a run keeps for itself, by their path in it."""
    return sorted(
        path.relative_to(run).as_posix()
        for path in run.rglob("*")
        if path.is_file() and path.suffix not in _FOR_PEOPLE
    )


def copy_run(run: Path, target: Path) -> Path:
    """Copy a run without copying a byte: whoever writes a file of it makes a new one."""
    return Path(shutil.copytree(run, target, copy_function=os.link))


def damage(path: Path, kind: str, dice: random.Random) -> bool:
    """Damage a file; False where that changes nothing."""
    before = path.read_bytes()
    after = KINDS[kind](before, dice)
    path.unlink()
    path.write_bytes(after)
    return after != before


def damaged_trial(
    run: Path, place: Path, name: str, kind: str, words: Sequence[str], dice: random.Random
) -> tuple[Outcome, Path]:
    """Damage one file of a copy of a run and give the command; return its outcome and the copy.

    Args:
        run: A finished run, which is not touched.
        place: Where the copy goes.
        name: The file, by its path in the run.
        kind: One of :data:`KINDS`.
        words: The command; ``RUN`` in it stands for the copy.
        dice: Decides which byte.
    """
    copy = copy_run(run, place)
    damage(copy / name, kind, dice)
    return call([word.replace("RUN", str(copy)) for word in words]), copy
