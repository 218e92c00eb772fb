"""Hashes of content, by which files, folders and values are known again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["sha256_bytes", "sha256_file", "sha256_json", "sha256_path", "stat_marks"]


def sha256_bytes(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_path(path: Path) -> str:
    """Return the hash of a file; of a folder, that of the names and hashes of all files in it."""
    if not path.is_dir():
        return sha256_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_json({file.relative_to(path).as_posix(): sha256_file(file) for file in files})


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
