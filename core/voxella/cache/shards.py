"""Tensors in sharded safetensors files: whole or absent, resumed after a kill, read in place.

A shard holds some hundred megabytes of entries. Each tensor is named ``<entry>/<part>``. The
shard's metadata carry the KEY of the cache (a hash of the settings that decide the values) and the
MARK of each entry (a hash of what it was made from), so that a shard left by other settings or
older data is recognised and removed and never read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from voxella.cache.shard_reader import checksum, sums_of
from voxella.files import atomic_path, make_folder, sweep
from voxella.machine import raise_if_machine
from voxella.plain_json import json_or_none
from voxella.process import PARTIAL
from voxella.progress import print_line

__all__ = ["ShardWriter", "collect_shards", "keys_of", "stored_bytes", "whole_entries"]

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
                _discard(path)
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
            sums = json.dumps({name: checksum(tensor) for name, tensor in flat.items()})
            save_file(flat, temporary, metadata={"key": self._key, "marks": marks, "sums": sums})
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
        _discard(path)
    return whole


def _discard(path: Path) -> None:
    if _metadata(path) is None and path.is_file():
        print_line(f"warning: {path} is damaged; what was in it is made again")
    path.unlink(missing_ok=True)


def whole_entries(folder: Path, *, key: str, wanted: Mapping[str, str]) -> frozenset[str]:
    """Return the entries that stand in whole shards of any rank; changes nothing."""
    return frozenset(_survey(folder, key, wanted)[0])


def keys_of(folder: Path) -> set[str | None]:
    """Return the keys of a folder's shards; None stands for those that cannot be read."""
    return {(_metadata(path) or {}).get("key") for path in sorted(folder.glob(f"*{_SUFFIX}"))}


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
    """Return a shard's ``{entry: mark}``; None when it is damaged, gone, or of another key."""
    metadata = _metadata(path)
    if metadata is None or metadata.get("key") != key:
        return None
    marks = json_or_none(metadata.get("marks", ""))
    if not isinstance(marks, dict) or sums_of(metadata) is None:
        return None
    return {str(entry): str(mark) for entry, mark in marks.items()}


def _metadata(path: Path) -> dict[str, str] | None:
    try:
        # Opening checks the header against the file's length, so a cut shard does not open.
        with safe_open(path, framework="pt") as shard:
            found: dict[str, str] = shard.metadata() or {}
            return found
    except (SafetensorError, OSError) as error:
        raise_if_machine(error, path)
        return None
