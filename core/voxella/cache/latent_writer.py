"""Latents on their way into the cache: a rank's shards, and what a case takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from voxella.cache.shards import SHARD_BYTES, SHARD_ENTRIES, ShardWriter
from voxella.cache.storage import LATENT_STORAGE

__all__ = ["ROUNDING", "LatentWriter", "bytes_per_case"]

# The sum over a case of what storing did to its mean, squared: so that it can be told.
ROUNDING = "rounding"


def bytes_per_case(dtype: str, shape: Sequence[int]) -> int:
    """Return what one latent of ``shape`` takes on the disk, but for its name."""
    parts = LATENT_STORAGE[dtype].values()
    return sum(storage.nbytes(shape) for storage in parts) + torch.float64.itemsize


class LatentWriter:
    """Writes latents into shards; cases that an earlier, killed run has written are skipped.

    Args:
        folder: The cache's folder.
        dtype: ``bfloat16``, ``float32`` or ``compact``.
        key: Hash of the settings that decide the values: autoencoder, dtype.
        sources: ``{case id: hash of its volume}`` of every case that belongs to the cache, over
            all ranks.
        rank: This process's number.
        shard_bytes: See :class:`voxella.cache.shards.ShardWriter`.
        shard_cases: See ``shard_entries`` there.
    """

    def __init__(
        self,
        folder: Path,
        dtype: str,
        *,
        key: str,
        sources: Mapping[str, str],
        rank: int = 0,
        shard_bytes: int = SHARD_BYTES,
        shard_cases: int = SHARD_ENTRIES,
    ) -> None:
        self._storage = LATENT_STORAGE[dtype]
        self._shards = ShardWriter(
            folder,
            key=key,
            wanted=sources,
            rank=rank,
            shard_bytes=shard_bytes,
            shard_entries=shard_cases,
        )

    @property
    def done(self) -> set[str]:
        """Return the cases that stand in whole shards."""
        return set(self._shards.done)

    def add(self, case_id: str, mean: Tensor, log_sigma: Tensor | None) -> None:
        """Take one case's latent; both tensors are ``(C, *spatial)``, log sigma may be None.

        Raises:
            ValueError: The shapes differ, or the case does not belong to the cache.
        """
        if log_sigma is not None and mean.shape != log_sigma.shape:
            raise ValueError(f"mean {tuple(mean.shape)} and log sigma {tuple(log_sigma.shape)}")
        kept = self._storage["mean"].rounded(mean)
        parts = {ROUNDING: (kept.double() - mean.double()).square().sum()}
        for name, values in (("mean", mean), ("log_sigma", log_sigma)):
            if values is not None:
                parts |= self._storage[name].parts(name, values)
        self._shards.add(case_id, parts)

    def __enter__(self) -> LatentWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        self._shards.flush()
