"""Whole slides of a few hundred pixels, as tiled TIFF files that OpenSlide takes for Aperio's."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TILE = 64
_SHORT, _LONG, _ASCII = 3, 4, 2


def write_slide(
    path: Path,
    pixels: NDArray[np.uint8],
    *,
    power: float | None = 20,
    mpp: float | None = 0.5,
    damaged: bool = False,
) -> Path:
    """Write ``(rows, columns, 3)``, uncompressed, one level; None leaves a fact out.

    A damaged slide says that its tiles are JPEG, which they are not: it opens and cannot be read.
    """
    rows, columns = pixels.shape[:2]
    down, across = -(-rows // _TILE), -(-columns // _TILE)
    padded = np.full((down * _TILE, across * _TILE, 3), 255, dtype=np.uint8)
    padded[:rows, :columns] = pixels
    tiles = [
        padded[r * _TILE : (r + 1) * _TILE, c * _TILE : (c + 1) * _TILE].tobytes()
        for r in range(down)
        for c in range(across)
    ]
    facts = [f"AppMag = {power}"] * (power is not None) + [f"MPP = {mpp}"] * (mpp is not None)
    told = "|".join(["Aperio Image Library v1", *facts]).encode() + b"\0"
    data = bytearray(b"II*\0\0\0\0\0")

    def put(content: bytes) -> int:
        at = len(data)
        data.extend(content)
        data.extend(b"\0" * (len(data) % 2))
        return at

    places = [put(tile) for tile in tiles]
    longs = struct.Struct(f"<{len(tiles)}I")
    # A single number stands in the tag itself.
    first, sizes = places[0], len(tiles[0])
    if len(tiles) > 1:
        first, sizes = put(longs.pack(*places)), put(longs.pack(*map(len, tiles)))
    tags = [
        (256, _LONG, 1, columns),
        (257, _LONG, 1, rows),
        (258, _SHORT, 3, put(struct.pack("<3H", 8, 8, 8))),
        (259, _SHORT, 1, 7 if damaged else 1),
        (262, _SHORT, 1, 2),
        (270, _ASCII, len(told), put(told)),
        (277, _SHORT, 1, 3),
        (284, _SHORT, 1, 1),
        (322, _LONG, 1, _TILE),
        (323, _LONG, 1, _TILE),
        (324, _LONG, len(tiles), first),
        (325, _LONG, len(tiles), sizes),
    ]
    data[4:8] = struct.pack("<I", len(data))
    data.extend(struct.pack("<H", len(tags)))
    for tag, kind, count, value in tags:
        data.extend(struct.pack("<HHII", tag, kind, count, value))
    data.extend(b"\0\0\0\0")
    path.write_bytes(bytes(data))
    return path


def stained(rows: int, columns: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return pink and violet noise: tissue everywhere."""
    drawn = np.random.default_rng(seed).integers(0, 60, (rows, columns, 1), dtype=np.uint8)
    return (np.array([190, 110, 170], dtype=np.uint8) + drawn * np.uint8(1)).astype(np.uint8)
