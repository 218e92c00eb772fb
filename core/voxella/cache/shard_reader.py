"""Reading shards in place: each tensor is held against its checksum when it is first read."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from voxella.errors import UserError
from voxella.machine import naming
from voxella.plain_json import json_or_none

__all__ = ["ENCODE", "ShardReader", "checksum", "sums_of"]

ENCODE = "voxella encode RECIPE"


def checksum(tensor: Tensor) -> int:
    """Return the CRC-32 of a tensor's form and bytes: any byte that a disk changes changes it."""
    form = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    content: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return zlib.crc32(content, zlib.crc32(form))


def sums_of(metadata: Mapping[str, str]) -> dict[str, int] | None:
    """Return a shard's checksums by tensor; empty where it has none, None where it is damaged."""
    sums = json_or_none(metadata.get("sums", "{}"))
    return sums if isinstance(sums, dict) else None


def _damaged(path: Path, entry: str, what: str) -> UserError:
    return UserError(
        f"{path} is damaged: {entry} {what}",
        remedy=f"rm {path}, then {ENCODE} with the same --out: it makes what was in it again",
    )


class ShardReader:
    """Reads tensors in place: each is a view of the memory-mapped file, nothing is copied.

    Files are opened at first use in each process, so an object that was made before a fork, or
    sent to a spawned worker, opens its own. The mapping is private: writing into a tensor that
    was read never reaches the file.

    Args:
        folder: Where the shards lie.
        shard_of: ``{entry: shard file}``.
    """

    def __init__(self, folder: Path, shard_of: Mapping[str, str]) -> None:
        self.folder = Path(folder)
        self._shard_of = dict(shard_of)
        self._open: dict[str, tuple[Any, dict[str, int]]] = {}
        self._sound: set[str] = set()
        self._process = os.getpid()

    def has(self, entry: str, part: str) -> bool:
        """Return whether an entry has a part.

        Raises:
            UserError: The file is damaged or gone.
        """
        path = self.folder / self._shard_of[entry]
        try:
            with naming(path):
                return f"{entry}/{part}" in self._opened(path)[0].keys()
        except (SafetensorError, FileNotFoundError, ValueError, RecursionError) as error:
            raise _damaged(path, entry, "cannot be read") from error

    def tensor(self, entry: str, part: str) -> Tensor:
        """Return one tensor as a view of the file, in the dtype it is stored in.

        When it is read for the first time, it is held against the checksum that was written with
        it: no changed byte of a latent or a feature is trained on.

        Raises:
            UserError: The file is damaged or gone.
        """
        if self._process != os.getpid():
            self._open, self._process = {}, os.getpid()
        path = self.folder / self._shard_of[entry]
        name = f"{entry}/{part}"
        try:
            with naming(path):
                file, sums = self._opened(path)
                tensor: Tensor = file.get_tensor(name)
        except (SafetensorError, FileNotFoundError, ValueError, KeyError, RecursionError) as error:
            raise _damaged(path, entry, "cannot be read") from error
        if name not in self._sound:
            # Shards of earlier versions have no sums.
            if sums and checksum(tensor) != sums.get(name):
                raise _damaged(path, entry, "is not what was written")
            self._sound.add(name)
        return tensor

    def _opened(self, path: Path) -> tuple[Any, dict[str, int]]:
        if path.name not in self._open:
            file: Any = safe_open(path, framework="pt")
            sums = sums_of(file.metadata() or {})
            if sums is None:
                raise ValueError("its checksums are damaged")
            self._open[path.name] = (file, sums)
        return self._open[path.name]

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files out: they belong to this process."""
        return self.__dict__ | {"_open": {}, "_process": -1}
