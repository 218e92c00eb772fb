"""Tensors in sharded safetensors files: whole or absent, resumed after a kill, read in place.

A shard holds some hundred megabytes of entries. Each tensor is named ``<entry>/<part>``. The
shard's metadata carry the KEY of the cache (a hash of the settings that decide the values) and the
MARK of each entry (a hash of what it was made from), so that a shard left by other settings or
older data is recognised and removed and never read.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from voxella.files import atomic_path, make_folder, sweep
from voxella.machine import naming, raise_if_machine
from voxella.process import PARTIAL

__all__ = ["ShardReader", "ShardWriter", "collect_shards", "stored_bytes", "whole_entries"]

SHARD_BYTES = 256 * 2**20
SHARD_ENTRIES = 64
# A large encoder on a slow machine takes hours for 64 entries; a kill should not cost them all.
SHARD_SECONDS = 300.0
_SUFFIX = ".safetensors"


class ShardWriter:
    """Writes entries into shards; an entry that is already in a whole shard is skipped.

    Each rank writes files of its own, so ranks never wait for each other. Used as a context, it
    writes what it holds on the way out, also when an error or an interrupt ends the block.

    Args:
        folder: Where the shards go.
        key: Hash of the settings that decide the values. Shards of another key are removed.
        wanted: ``{entry: mark}`` of the entries that belong to the cache. A shard that holds any
            other entry or mark is removed, so that nothing of a withdrawn case stays behind.
        rank: This process's number; it names the files.
        shard_bytes: A shard is written when it has reached this size.
        shard_entries: ... or holds this many entries,
        shard_seconds: ... or was begun this long ago: what a kill can cost at most.
    """

    def __init__(
        self,
        folder: Path,
        *,
        key: str,
        wanted: Mapping[str, str],
        rank: int = 0,
        shard_bytes: int = SHARD_BYTES,
        shard_entries: int = SHARD_ENTRIES,
        shard_seconds: float = SHARD_SECONDS,
    ) -> None:
        self.folder = Path(folder)
        make_folder(self.folder)
        self._key = key
        self._stem = f"rank{rank:04d}-"
        self._limits = (shard_bytes, shard_entries, shard_seconds)
        self._wanted = dict(wanted)
        self._held: dict[str, dict[str, Tensor]] = {}
        self._held_bytes = 0
        self._begun = time.monotonic()
        whole, unusable = _survey(self.folder, key, self._wanted)
        for path in unusable:
            # Another rank may be writing; only the merge touches files that are not ours.
            if path.name.startswith(self._stem):
                path.unlink(missing_ok=True)
        self.done = set(whole)
        numbers = [int(path.stem.removeprefix(self._stem)) for path in self._own()]
        self._next = max(numbers, default=-1) + 1

    def add(self, entry: str, tensors: Mapping[str, Tensor]) -> None:
        """Take one entry's tensors by part. They must already have the cache's dtype.

        Raises:
            ValueError: The entry is not among those the cache was opened for.
        """
        if entry not in self._wanted:
            raise ValueError(f"{entry} does not belong to this cache")
        if entry in self.done or entry in self._held:
            return
        # clone: a part that is a view would otherwise drag its whole storage along.
        self._held[entry] = {
            part: tensor.detach().cpu().contiguous().clone() for part, tensor in tensors.items()
        }
        self._held_bytes += sum(tensor.nbytes for tensor in self._held[entry].values())
        held = (self._held_bytes, len(self._held), time.monotonic() - self._begun)
        if any(has >= limit for has, limit in zip(held, self._limits, strict=True)):
            self.flush()

    def flush(self) -> None:
        """Write what is held as one shard."""
        self._begun = time.monotonic()
        if not self._held:
            return
        flat = {f"{e}/{part}": t for e, parts in self._held.items() for part, t in parts.items()}
        with atomic_path(self.folder / f"{self._stem}{self._next:05d}{_SUFFIX}") as temporary:
            marks = json.dumps({entry: self._wanted[entry] for entry in self._held})
            save_file(flat, temporary, metadata={"key": self._key, "marks": marks})
        self._next += 1
        self.done.update(self._held)
        self._held, self._held_bytes = {}, 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        self.flush()

    def _own(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self._stem}*{_SUFFIX}"))


def collect_shards(folder: Path, *, key: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return ``{entry: shard file}`` after removing what no longer belongs to the cache.

    Call it once, when no rank writes any more: it deletes unfinished files, damaged shards and
    shards of another key or mark, of every rank.
    """
    sweep(folder)
    whole, unusable = _survey(folder, key, wanted)
    for path in unusable:
        path.unlink(missing_ok=True)
    return whole


def whole_entries(folder: Path, *, key: str, wanted: Mapping[str, str]) -> frozenset[str]:
    """Return the entries that stand in whole shards of any rank; changes nothing."""
    return frozenset(_survey(folder, key, wanted)[0])


def stored_bytes(folder: Path) -> int:
    """Return what a folder's shards take on the disk."""
    return sum(path.stat().st_size for path in Path(folder).glob(f"*{_SUFFIX}"))


def _survey(folder: Path, key: str, wanted: Mapping[str, str]) -> tuple[dict[str, str], list[Path]]:
    """Sort a folder's shards into ``{entry: shard file}`` and files that cannot be used."""
    whole: dict[str, str] = {}
    unusable: list[Path] = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        if path.name.startswith(PARTIAL):
            continue
        marks = _marks(path, key)
        if marks is None or any(wanted.get(entry) != mark for entry, mark in marks.items()):
            unusable.append(path)
            continue
        for entry in marks:
            whole.setdefault(entry, path.name)
    return whole, unusable


def _marks(path: Path, key: str) -> dict[str, str] | None:
    """Return a shard's ``{entry: mark}``; None when it is cut short, gone, or of another key."""
    try:
        # Opening checks the header against the file's length, so a cut shard does not open.
        with safe_open(path, framework="pt") as shard:
            metadata = shard.metadata() or {}
            if metadata.get("key") != key:
                return None
            marks: dict[str, str] = json.loads(metadata["marks"])
            return marks
    except (SafetensorError, OSError) as error:
        raise_if_machine(error, path)
        return None


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
        self._open: dict[str, Any] = {}
        self._process = os.getpid()

    def tensor(self, entry: str, part: str) -> Tensor:
        """Return one tensor as a view of the file, in the dtype it is stored in."""
        if self._process != os.getpid():
            self._open, self._process = {}, os.getpid()
        name = self._shard_of[entry]
        if name not in self._open:
            with naming(self.folder / name):
                self._open[name] = safe_open(self.folder / name, framework="pt")
        tensor: Tensor = self._open[name].get_tensor(f"{entry}/{part}")
        return tensor

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files out: they belong to this process."""
        return self.__dict__ | {"_open": {}, "_process": -1}
