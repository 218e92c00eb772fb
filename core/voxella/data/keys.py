"""Secret keys in files, and the hashes that only their owner can make (HMAC-SHA-256).

An unkeyed hash of an identifier would not do: hospital numbers are few enough to be tried out one
by one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from voxella.errors import UserError
from voxella.files import make_folder

__all__ = ["keyed_hash", "new_key", "read_key", "write_key"]

_BYTES = 32


def new_key() -> bytes:
    """Return a key that nobody has had before."""
    return secrets.token_bytes(_BYTES)


def keyed_hash(key: bytes, what: str, value: str) -> str:
    """Return the hexadecimal hash of a value; equal values of different kinds have different ones.

    Args:
        key: Of :func:`new_key` or :func:`read_key`.
        what: The kind, such as ``patient``.
        value: What is to be hidden.
    """
    return hmac.new(key, f"{what}:{value}".encode(), hashlib.sha256).hexdigest()


def write_key(path: Path, key: bytes) -> None:
    """Write a key for its owner alone.

    Raises:
        FileExistsError: There is a key already. It is never replaced: who was hashed with it would
            have two names.
    """
    make_folder(path.parent)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_key(path: Path, *, remedy: str) -> bytes:
    """Read a key.

    Args:
        path: Its file.
        remedy: What to do where it is no key.

    Raises:
        OSError: It cannot be read.
        UserError: It holds no key.
    """
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not re.fullmatch(rf"[0-9a-f]{{{2 * _BYTES}}}", text):
        raise UserError(f"{path} holds no key ({2 * _BYTES} hexadecimal digits)", remedy=remedy)
    return bytes.fromhex(text)
