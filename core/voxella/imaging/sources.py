"""Content hashes of a data set's image files, remembered so that an unchanged file is read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.hashing import sha256_bytes, sha256_file
from voxella.imaging.headers import file_parts
from voxella.imaging.shards import read_row, row_of
from voxella.machine import raise_if_machine
from voxella.workspace.state import StateFile, sealed

__all__ = ["hash_images"]

_THREADS = 4
# By path: size, time of change, hash.
_MEMORY: StateFile[dict[str, list[int | str]]] = StateFile(dict[str, list[int | str]], "rm {path}")


def hash_images(
    paths: Iterable[Path], memory: Path, advance: Callable[[], None] = lambda: None
) -> tuple[dict[Path, str], dict[Path, str]]:
    """Hash every image file by content, detached voxels included.

    A file whose size and time of change are those of last time is not read again.

    Args:
        paths: The images.
        memory: JSON file that keeps what was found; rewritten when anything is new.
        advance: Called once per image, in this thread.

    Returns:
        The hashes by path, and the problems of files that cannot be read by path.
    """
    known = _remembered(memory)
    found: dict[str, Any] = {}
    hashes: dict[Path, str] = {}
    problems: dict[Path, str] = {}

    def visit(path: Path) -> None:
        try:
            # Of a shard, not the whole of it: other tiles may change.
            if (row := row_of(path)) is not None:
                hashes[path] = sha256_bytes(read_row(path, row))
                return
            digests = []
            for part in file_parts(path):
                state = part.stat()
                now = [state.st_size, state.st_mtime_ns]
                entry = known.get(str(part))
                digest = str(entry[2]) if entry and entry[:2] == now else sha256_file(part)
                found[str(part)] = [*now, digest]
                digests.append(digest)
            one = len(digests) == 1
            hashes[path] = digests[0] if one else sha256_bytes("".join(digests).encode())
        except UserError as error:
            raise_if_machine(error)
            problems[path] = error.problem
        except OSError as error:
            raise_if_machine(error)
            problems[path] = f"{path}: cannot be read: {error.strerror}"

    # Threads suffice: hashing releases the interpreter's lock.
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(visit, dict.fromkeys(paths)):
            advance()
    if found != known:
        write_json_atomic(memory, sealed(dict(sorted(found.items()))))
    return hashes, problems


def _remembered(memory: Path) -> dict[str, Any]:
    return dict(_MEMORY.read_or_remake(memory) or {})
