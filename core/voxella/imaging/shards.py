"""Pictures within one file: a shard holds the encoded bytes of many tiles, one behind the other.

A tile is named as though the shard were a folder: ``tiles/SLIDE.shard/OFFSET-LENGTH-CRC.jpg``. The
name says where its bytes lie and what their checksum is, so that one read of a manifest's row is
followed by one read of a file, no index is held in memory, and no process shares an open file.
"""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from voxella.imaging.problem import ImageError
from voxella.machine import raise_if_machine

__all__ = [
    *("SHARD", "ShardRow", "ShardWriter"),
    *("check_row", "is_there", "open_picture", "read_row", "row_of"),
]

SHARD = ".shard"
_BEGIN = b"voxella tiles 1\n"
_NAME = re.compile(r"(\d{1,19})-(\d{1,19})-([0-9a-f]{8})\.[A-Za-z]{3,4}", re.ASCII)
_REMEDY = "copy the shard again from its source, or import again"


class ShardRow(NamedTuple):
    """Where a tile's encoded bytes lie.

    Attributes:
        shard: The file.
        offset: Of the first byte.
        length: How many bytes.
        crc32: Their checksum.
    """

    shard: Path
    offset: int
    length: int
    crc32: int


def row_of(path: Path) -> ShardRow | None:
    """Return what a path says of a shard's row; None where it names a file of its own."""
    if path.parent.suffix != SHARD:
        return None
    found = _NAME.fullmatch(path.name)
    if found is None:
        return None
    return ShardRow(path.parent, int(found[1]), int(found[2]), int(found[3], 16))


def is_there(path: Path) -> bool:
    """Return whether a file is there; of a shard's row, whether the shard is."""
    row = row_of(path)
    return path.is_file() if row is None else row.shard.is_file()


def check_row(path: Path, row: ShardRow) -> None:
    """Look whether a shard is there and long enough; its tile's bytes are not read.

    Raises:
        ImageError: It is absent, no shard, or too short for the row.
    """
    try:
        with row.shard.open("rb") as file:
            begin = file.read(len(_BEGIN))
            held = file.seek(0, io.SEEK_END)
    except OSError as error:
        raise_if_machine(error, row.shard)
        code, told = "image.absent", f"{path}: its shard cannot be opened: {error.strerror}"
        raise ImageError(told, code=code, remedy=_REMEDY) from error
    if begin != _BEGIN:
        raise ImageError(f"{path}: {row.shard.name} is no shard of tiles", code="image.format")
    if row.length == 0 or row.offset < len(_BEGIN) or row.offset + row.length > held:
        raise ImageError(
            f"{path}: bytes {row.offset:,} to {row.offset + row.length:,} are asked for, and "
            f"{row.shard.name} holds {held:,}",
            code="image.truncated",
            remedy=_REMEDY,
        )


def read_row(path: Path, row: ShardRow) -> bytes:
    """Return a tile's encoded bytes.

    Raises:
        ImageError: As :func:`check_row`; or the bytes are not those that were written.
    """
    check_row(path, row)
    with row.shard.open("rb") as file:
        file.seek(row.offset)
        data = file.read(row.length)
    if zlib.crc32(data) != row.crc32:
        raise ImageError(
            f"{path}: its bytes are not those that were written (checksum)",
            code="image.damaged",
            remedy=_REMEDY,
        )
    return data


def open_picture(path: Path) -> BinaryIO:
    """Open a picture's encoded bytes: a file's, or those of a shard's row.

    Raises:
        ImageError: As :func:`read_row`.
        OSError: A file cannot be opened.
    """
    row = row_of(path)
    return path.open("rb") if row is None else io.BytesIO(read_row(path, row))


class ShardWriter:
    """Writes a shard, used as a context; whoever gives the path sees to it that it is whole.

    Args:
        path: A file that ends in ``.shard``; what is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(_BEGIN)
        self.size = len(_BEGIN)

    def add(self, data: bytes, suffix: str) -> str:
        """Add a tile's encoded bytes; return its name within the shard.

        Args:
            data: A PNG, JPEG or TIFF file's content.
            suffix: Of its format, such as ``.jpg``.
        """
        name = f"{self.size}-{len(data)}-{zlib.crc32(data):08x}{suffix}"
        self._file.write(data)
        self.size += len(data)
        return name

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
