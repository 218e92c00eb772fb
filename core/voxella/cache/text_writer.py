"""Token features on their way into the cache: the names of texts, and a rank's shards."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from torch import Tensor

from voxella.cache.shards import (
    SHARD_BYTES,
    SHARD_ENTRIES,
    ShardWriter,
    whole_entries,
)
from voxella.cache.storage import TEXT_STORAGE
from voxella.hashing import sha256_bytes

__all__ = ["PART", "TextWriter", "marked", "text_key", "whole_texts"]

PART = "features"


def text_key(text: str, fingerprint: str) -> str:
    """Return the name of a text's features: it tells nothing about the text but equality."""
    return sha256_bytes(f"{fingerprint}\0{text}".encode())


def marked(texts: Iterable[str]) -> dict[str, str]:
    """Return ``{text: mark}``; the key of a text already says what its features were made from."""
    return dict.fromkeys(texts, "")


class TextWriter:
    """Writes features into shards; texts that an earlier, killed run has written are skipped.

    Args:
        folder: The cache's folder.
        dtype: ``bfloat16``, ``float32`` or ``compact``.
        key: Hash of all that decides the features: encoder and settings.
        texts: The key of every text that belongs to the cache, over all ranks.
        rank: This process's number.
        shard_bytes: See :class:`voxella.cache.shards.ShardWriter`.
        shard_texts: See ``shard_entries`` there.
    """

    def __init__(
        self,
        folder: Path,
        dtype: str,
        *,
        key: str,
        texts: Collection[str],
        rank: int = 0,
        shard_bytes: int = SHARD_BYTES,
        shard_texts: int = SHARD_ENTRIES,
    ) -> None:
        self._storage = TEXT_STORAGE[dtype]
        self._shards = ShardWriter(
            folder,
            key=key,
            wanted=marked(texts),
            rank=rank,
            shard_bytes=shard_bytes,
            shard_entries=shard_texts,
        )

    @property
    def done(self) -> set[str]:
        """Return the keys of the texts that stand in whole shards."""
        return set(self._shards.done)

    def add(self, key: str, features: Tensor) -> None:
        """Take one text's ``(L, F)`` features."""
        self._shards.add(key, self._storage.parts(PART, features))

    def __enter__(self) -> TextWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        self._shards.flush()


def whole_texts(folder: Path, *, key: str, texts: Collection[str]) -> frozenset[str]:
    """Return which of ``texts``, given by key, stand in whole shards of any rank."""
    return whole_entries(folder, key=key, wanted=marked(texts))
