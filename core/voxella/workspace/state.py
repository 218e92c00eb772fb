"""Reading the files that voxella keeps for itself: as they were written, or damaged.

A disk, a copy or an editor may have cut or changed any of them. Every reader of such a file comes
through here, so that damage is a sentence that names the file, never a traceback and never a wrong
number: a file carries a seal, or its stage's record holds its hash. Where a file can safely be made
again its reader takes it for absent, which is told in one line; else the user is told what to do.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from voxella.errors import UserError
from voxella.hashing import sha256_bytes, sha256_file
from voxella.machine import raise_if_machine
from voxella.progress import print_line
from voxella.ranks import Ranks

__all__ = [
    "RECORD",
    "DamagedError",
    "StateFile",
    "StateLines",
    "hashes_of",
    "is_as_written",
    "print_once",
    "sealed",
]

RECORD = "stage.json"
# Checksum of all else. Files without one, of earlier versions, are judged by their form.
_SEAL = "seal"
T = TypeVar("T")
_told: set[str] = set()


class DamagedError(UserError):
    """A file of voxella's own is not as it was written."""

    def __init__(self, path: Path, why: str, remedy: str) -> None:
        self.path = path
        super().__init__(f"{path} is damaged: {why}", remedy=remedy)


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a state file with the seal by which a single changed byte is seen."""
    return {**content, _SEAL: _seal(content)}


class StateFile(Generic[T]):
    """One kind of JSON file, with the form that its content has.

    Args:
        shape: What pydantic understands: a ``TypedDict``, ``dict[str, float]``, a dataclass...
            Read strictly, and only to judge: the content is returned as it stands.
        again: What to do where it cannot be made again by itself; ``{path}`` and ``{folder}`` stand
            for the file and its folder.
    """

    def __init__(self, shape: Any, again: str) -> None:  # noqa: ANN401 - a type, or a special form
        self._shape: TypeAdapter[T] = TypeAdapter(shape)
        self._again = again

    def read(self, path: Path) -> T | None:
        """Return the content; None where there is no such file.

        Raises:
            DamagedError: The file holds something else than was written.
        """
        data = _bytes(path)
        if data is None:
            return None
        if not is_as_written(path, data):
            raise self._damaged(path, "its content is not what its stage wrote")
        try:
            content = _parsed(data)
            seal = content.pop(_SEAL, None) if isinstance(content, dict) else None
            if seal is not None and seal != _seal(content):
                raise self._damaged(path, "its content is not what was written")
            self._shape.validate_python(content, strict=True)
        except ValidationError as error:
            raise self._damaged(path, _first(error)) from None
        except (ValueError, RecursionError):
            raise self._damaged(path, "it is no whole JSON") from None
        checked: T = content
        return checked

    def read_or_remake(self, path: Path, *, quiet: bool = False) -> T | None:
        """Return the content; None where there is none that can be used, so that it is made again.

        What is damaged is told once, on the first process.
        """
        try:
            return self.read(path)
        except DamagedError as damage:
            print_once(f"{damage.problem}; it is made again", quiet=quiet)
            return None

    def _damaged(self, path: Path, why: str) -> DamagedError:
        return DamagedError(path, why, self._again.format(path=path, folder=path.parent))


class StateLines(Generic[T]):
    """One kind of JSON-lines file, added to line by line: a kill may have cut the last.

    Args:
        shape: Of a line.
        again: What makes the file again; of a damaged one it is told to remove it first.
        needs: Keys that a line has to have, where the shape does not say it.
    """

    def __init__(self, shape: Any, again: str = "", *, needs: Sequence[str] = ()) -> None:  # noqa: ANN401 - a type, or a special form
        self._shape: TypeAdapter[T] = TypeAdapter(shape)
        self._again = again
        self._needs = frozenset(needs)

    def all_of(self, path: Path) -> list[T]:
        """Return all lines of a file that was written as a whole.

        Raises:
            DamagedError: It is absent, or not as it was written.
        """
        data = _bytes(path)
        remedy = self._again.format(path=path, folder=path.parent)
        if data is None:
            raise UserError(f"{path} does not exist", remedy=remedy)
        removed = f"rm {path}, then {remedy}"
        if not is_as_written(path, data):
            raise DamagedError(path, "its content is not what its stage wrote", removed)
        found, bad = self._sorted(data)
        if bad:
            raise DamagedError(path, f"line {bad[0]} cannot be read", removed)
        return found

    def _sorted(self, data: bytes) -> tuple[list[T], list[int]]:
        """Return the lines that are whole, and the numbers of the others."""
        found: list[T] = []
        bad = []
        for number, line in enumerate(data.splitlines(), start=1):
            try:
                content = _parsed(line)
                self._shape.validate_python(content, strict=True)
                if not self._needs <= content.keys():
                    raise ValueError
                found.append(content)
            except (ValueError, RecursionError):  # pydantic's is a ValueError
                bad.append(number)
        return found, bad

    def read(self, path: Path, *, quiet: bool = False) -> list[T]:
        """Return the lines that are whole; none where there is no such file. Others are told."""
        data = _bytes(path) or b""
        lines = data.splitlines()
        found, bad = self._sorted(data)
        if bad and bad != [len(lines)]:
            what = f"{len(bad)} lines" if len(bad) > 1 else f"line {bad[0]}"
            print_once(f"{path} is damaged: {what} cannot be read; left out", quiet=quiet)
        return found


def hashes_of(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the hash of each file, by its path below ``folder``."""
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def is_as_written(path: Path, data: bytes | None = None) -> bool:
    """Return whether a file is as the record beside it says; where none says anything, it is."""
    if path.name == RECORD:
        return True
    known = _hashes(path.parent).get(path.name)
    if known is None:
        return True
    if data is not None:
        return sha256_bytes(data) == known
    return path.is_file() and sha256_file(path) == known


def print_once(line: str, *, quiet: bool = False) -> None:
    """Say a line on the first process, and not again."""
    if line not in _told and Ranks.from_environment().is_main:
        _told.add(line)
        print_line(f"warning: {line}", quiet=quiet)


def _hashes(folder: Path) -> dict[str, str]:
    try:
        record = json.loads((folder / RECORD).read_bytes())
        files = record["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise_if_machine(error)
        return {}  # a damaged record is told by whoever reads it


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _seal(content: Mapping[str, Any]) -> int:
    """Return the CRC-32 of the content, which any byte that a disk changes changes."""
    # As it will be read: JSON has no numbers for keys and no tuples.
    read = json.loads(json.dumps(content))
    return zlib.crc32(json.dumps(read, sort_keys=True).encode())


def _parsed(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    return json.loads(data.decode("utf-8"))


def _first(error: ValidationError) -> str:
    """Return the first thing that is wrong, without what stands there."""
    item = error.errors(include_input=False, include_url=False)[0]
    where = str(item["loc"][0]) if item["loc"] else "content"
    return f"{where}: {item['msg']}"
