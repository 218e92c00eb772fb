"""Files and folders that are whole or absent: written under a temporary name, synced, renamed.

A rename may reach the disk before what it names, and a name before what it stands for. So the order
is: data, then the folder that holds it, then the name.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "atomic_path",
    "publish_folder",
    "sha256_bytes",
    "sha256_file",
    "sha256_json",
    "stat_marks",
    "write_json_atomic",
    "write_text_atomic",
]


@contextmanager
def atomic_path(target: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; rename it there when the block succeeds.

    The temporary name keeps the target's suffixes, for writers that choose a format by them.

    Args:
        target: The final path; its folder is made.
        mode: Permissions of the final file (reports use ``0o600``).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=".partial-", suffix="".join(target.suffixes[-2:]), dir=target.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes 0600; a data file should follow the umask like any other.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(mode if mode is not None else 0o666 & ~umask)
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def publish_folder(partial: Path, target: Path, *, marker: str, facts: Any) -> Path:  # noqa: ANN401 - any JSON value
    """Give a written folder its name, so that not even a host's crash leaves it there in part.

    Every file below is synced, then every folder, then the marker is written and synced, then the
    folder is renamed and its parent synced. Whoever sees the marker sees all that it vouches for.

    Args:
        partial: The folder as written, under a name that nobody reads.
        target: Its final path, on the same file system; what is there is replaced.
        marker: Name of the JSON file that says the folder is complete.
        facts: What the marker says.
    """
    below = sorted(partial.rglob("*"))
    for path in (path for path in below if path.is_file()):
        _sync(path)
    for path in (path for path in (*reversed(below), partial) if path.is_dir()):
        _sync(path)
    write_json_atomic(partial / marker, facts)
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    _sync(target.parent)
    return target


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems sync files alone.
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def write_text_atomic(target: Path, text: str, *, mode: int | None = None) -> Path:
    """Write UTF-8 text atomically and return ``target``."""
    with atomic_path(target, mode=mode) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def write_json_atomic(target: Path, value: Any) -> Path:  # noqa: ANN401 - any JSON value
    """Write ``value`` as indented JSON atomically and return ``target``."""
    return write_text_atomic(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256_bytes(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a hash of a JSON value that does not depend on key order."""
    return sha256_bytes(json.dumps(value, sort_keys=True, default=str).encode())


def stat_marks(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and modification time of a file, or of all files below a folder.

    Cheap where hashing content is not: tens of gigabytes of weights, thousands of images. Equal
    marks mean unchanged; different ones mean "look closer". A path that is absent has none.
    """
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = [(file, file.stat()) for file in files if file.is_file()]
    return [
        (file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in found
    ]
