"""How a tensor lies in a shard: as it is, rounded to bfloat16, or in a few bits a value.

Numbers in 4, 6 or 8 bits: blocks of 128, each spread evenly over its own range.

A block holds its smallest value and its step, both bfloat16, and one code per value. The smallest
value is rounded down and the step up, so a value comes back within half a step of itself: at most
``range / (2 (2^bits - 1))`` and a little for the two roundings. ``unpack`` is a few passes over
contiguous bytes; nothing is decompressed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxella.cache.shard_reader import ShardReader

__all__ = ["BLOCK", "LATENT_STORAGE", "TEXT_STORAGE", "Storage", "pack", "packed_bytes", "unpack"]

BLOCK = 128
_HEAD_BYTES = 4  # two bfloat16 a block


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


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes ``count`` values take; the last block is filled up."""
    blocks = -(-count // BLOCK)
    return blocks * (_HEAD_BYTES + BLOCK * bits // 8)


def pack(values: Tensor, bits: int) -> Tensor:
    """Return finite values as uint8: every block's low and step, then all codes.

    Args:
        values: Any shape, at least one value.
        bits: 4, 6 or 8.
    """
    flat = values.detach().to(torch.float32).flatten()
    filling = flat[-1:].expand(-flat.numel() % BLOCK)
    blocks = torch.cat([flat, filling]).reshape(-1, BLOCK)
    levels = 2**bits - 1
    low = _rounded(blocks.amin(dim=1), up=False)
    step = _rounded((blocks.amax(dim=1) - low.float()) / levels, up=True)
    # A block whose values equal its low has the step 0; any divisor gives the code 0 there.
    divisor = torch.where(step > 0, step, torch.ones_like(step)).float()
    codes = ((blocks - low.float()[:, None]) / divisor[:, None]).round_().clamp_(0, levels)
    heads = torch.stack([low, step], dim=1).view(torch.uint8).flatten()
    return torch.cat([heads, _joined(codes.to(torch.uint8).flatten(), bits)])


def unpack(packed: Tensor, count: int, bits: int) -> Tensor:
    """Return ``count`` values, float32, of what :func:`pack` made."""
    blocks = -(-count // BLOCK)
    heads, codes = packed[: blocks * _HEAD_BYTES], packed[blocks * _HEAD_BYTES :]
    # clone: inside a file the bytes may stand where a bfloat16 may not.
    scales = heads.clone().view(torch.bfloat16).reshape(blocks, 2).float()
    values = _parted(codes, bits).reshape(blocks, BLOCK).to(torch.float32)
    values.mul_(scales[:, 1:]).add_(scales[:, :1])
    return values.flatten()[:count]


def _rounded(values: Tensor, *, up: bool) -> Tensor:
    """Round to bfloat16 in one direction; to the nearest might leave a value out of reach."""
    nearest = values.to(torch.bfloat16)
    missed = nearest.float() < values if up else nearest.float() > values
    beyond = torch.full_like(nearest, torch.inf if up else -torch.inf)
    return torch.where(missed, torch.nextafter(nearest, beyond), nearest)


def _joined(codes: Tensor, bits: int) -> Tensor:
    """Put codes into bytes, plane beside plane, so that parting them needs no strides."""
    if bits == 8:
        return codes
    if bits == 4:
        first, second = codes.chunk(2)
        return first | (second << 4)
    if bits != 6:
        raise ValueError(f"{bits} bits; 4, 6 and 8 are known")
    first, second, third, spread = codes.chunk(4)
    # Two bits of the fourth plane go on top of each of the other three.
    planes = (first, second, third)
    tops = (((spread >> (2 * k)) & 3) << 6 for k in range(3))
    return torch.cat([plane | top for plane, top in zip(planes, tops, strict=True)])


def _parted(joined: Tensor, bits: int) -> Tensor:
    """Undo :func:`_joined`."""
    if bits == 8:
        return joined
    if bits == 4:
        return torch.cat([joined & 15, joined >> 4])
    planes = joined.chunk(3)
    spread = (planes[0] >> 6) | ((planes[1] >> 6) << 2) | ((planes[2] >> 6) << 4)
    return torch.cat([*(plane & 63 for plane in planes), spread])
