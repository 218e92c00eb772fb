"""State that training continues from: hashed while it is written, read without running any code."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.machine import naming, raise_if_machine

__all__ = ["FileFacts", "read_state", "write_state"]

# torch's words for what it refuses to build.
_REFUSED = re.compile(r"(?:GLOBAL|class|operand) ([\w.]+)")


@dataclass(frozen=True)
class FileFacts:
    """What a file must be.

    Attributes:
        size: Its bytes.
        sha256: Hash of its content.
    """

    size: int
    sha256: str

    def difference(self, path: Path) -> str | None:
        """Say how a file differs from this; None where it does not. Reads all of it."""
        if not path.is_file():
            return "is missing"
        size = path.stat().st_size
        if size != self.size:
            return f"has {size} bytes instead of {self.size}"
        return None if sha256_file(path) == self.sha256 else "is not what was written (its hash)"


def write_state(path: Path, state: Any) -> FileFacts:  # noqa: ANN401 - whatever torch saves
    """Write with ``torch.save``, on the disk when this returns.

    The hash is of what was meant to be written, taken on the way: a disk that keeps something else
    is found out when the file is read.

    Raises:
        OSError: The machine refused to write.
    """
    with naming(path), open(path, "wb", opener=_open_private) as file:
        hashing = _Hashing(file)
        try:
            torch.save(state, cast("BinaryIO", hashing))
        except Exception:
            # torch's writer trips over the interruption and tells of that instead.
            if hashing.failed is not None:
                raise hashing.failed from None
            raise
        file.flush()
        os.fsync(file.fileno())
    return FileFacts(hashing.size, hashing.hash.hexdigest())


def read_state(
    path: Path,
    *,
    remedy: str,
    device: Any = "cpu",  # noqa: ANN401 - whatever torch.load maps by
    allowed: Sequence[type] = (),
) -> Any:  # noqa: ANN401 - whatever was saved
    """Read what ``torch.save`` wrote, without running any code that somebody may have put there.

    Args:
        path: The file.
        remedy: What to do where it cannot be read.
        device: Where tensors go, as ``torch.load`` takes it.
        allowed: Classes that may be built beside tensors, numbers and containers.

    Raises:
        UserError: The file is damaged, or holds something else.
        OSError: The machine refused to read it.
    """
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        raise_if_machine(error)
        if isinstance(error, pickle.UnpicklingError) and (found := _REFUSED.search(str(error))):
            raise UserError(
                f"{path} names {found[1]}, which no saved training needs: the file may run code "
                "that somebody put there; it was not loaded, and nothing in it has run",
                expected="tensors, numbers and text",
                remedy=remedy,
            ) from None
        raise UserError(
            f"{path} is damaged, or no saved training ({type(error).__name__})", remedy=remedy
        ) from None


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Hashing:
    """A file that is hashed on the way; torch writes it from its first byte to its last."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0
        self.failed: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write bytes."""
        try:
            self._file.write(data)
        except OSError as error:
            self.failed = error
            raise
        self.hash.update(data)
        self.size += memoryview(data).nbytes
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Do nothing: it is flushed, and synced, at the end."""
