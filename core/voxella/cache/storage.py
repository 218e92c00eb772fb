"""How a tensor lies in a shard: as it is, rounded to bfloat16, or in a few bits a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxella.cache.compact import pack, packed_bytes, unpack
from voxella.cache.shard_reader import ShardReader

__all__ = ["LATENT_STORAGE", "TEXT_STORAGE", "Storage"]


@dataclass(frozen=True)
class Storage:
    """The form of one part of an entry.

    Attributes:
        dtype: What it is read as.
        bits: Per value where it is packed; None: it is kept in ``dtype``.
    """

    dtype: torch.dtype
    bits: int | None = None

    def parts(self, name: str, values: Tensor) -> dict[str, Tensor]:
        """Return the tensors to store for ``values``, by name."""
        if self.bits is None:
            return {name: values.to(self.dtype)}
        return {name: pack(values, self.bits), f"{name}.shape": torch.tensor(values.shape)}

    def rounded(self, values: Tensor) -> Tensor:
        """Return ``values`` as they will be read."""
        if self.bits is None:
            return values.to(self.dtype)
        return self._unpacked(pack(values, self.bits), values.shape)

    def read(self, shards: ShardReader, entry: str, name: str) -> Tensor:
        """Return the part: a view of the file unless it is packed."""
        stored = shards.tensor(entry, name)
        if self.bits is None:
            return stored
        return self._unpacked(stored, self.shape(shards, entry, name))

    def shape(self, shards: ShardReader, entry: str, name: str) -> tuple[int, ...]:
        """Return the part's shape, without reading it."""
        if self.bits is None:
            return tuple(shards.tensor(entry, name).shape)
        return tuple(shards.tensor(entry, f"{name}.shape").tolist())

    def nbytes(self, shape: Sequence[int]) -> int:
        """Return what values of this shape take in a shard, without its header."""
        count = math.prod(shape)
        if self.bits is None:
            return count * self.dtype.itemsize
        return packed_bytes(count, self.bits) + len(shape) * torch.int64.itemsize

    def _unpacked(self, stored: Tensor, shape: Sequence[int]) -> Tensor:
        values = unpack(stored, math.prod(shape), self.bits or 0)
        return values.reshape(tuple(shape)).to(self.dtype)


_PLAIN = {"bfloat16": Storage(torch.bfloat16), "float32": Storage(torch.float32)}

# By the recipe's `text.dtype`.
TEXT_STORAGE: dict[str, Storage] = {**_PLAIN, "compact": Storage(torch.bfloat16, bits=6)}

# By the recipe's `latent.dtype`. Log sigma says how far a draw may stray: a few per cent of it are
# not seen, where the same error of the mean would be an error of the image.
LATENT_STORAGE: dict[str, dict[str, Storage]] = {
    **{name: {"mean": plain, "log_sigma": plain} for name, plain in _PLAIN.items()},
    "compact": {
        "mean": Storage(torch.float32, bits=8),
        "log_sigma": Storage(torch.float32, bits=4),
    },
}
