"""A workbook as the archive that it is: how much it holds, told before openpyxl unpacks it."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from voxella.errors import UserError
from voxella.limits import CELLS, MERGED_CELLS, UNPACKED_BYTES
from voxella.machine import raise_if_machine

__all__ = ["require_bounded"]

# Letters and numbers of a merged range, or of a cell with something in it (an empty one, which has
# a style alone, ends at once: "/>"). Whatever is written otherwise is met by openpyxl's reader.
_PLACES = re.compile(
    rb"""mergeCell\s[^>]{0,200}?ref\s*=\s*["']\$?([A-Za-z]{1,3})\$?(\d{1,7}):"""
    rb"""\$?([A-Za-z]{1,3})\$?(\d{1,7})["']"""
    rb"""|<(?:\w+:)?c\s[^>]{0,200}?\br\s*=\s*["']([A-Z]{1,3})(\d{1,7})["'][^>/]{0,200}>"""
)
_CHUNK_BYTES = 1 << 20
_OVERLAP = 512  # more than a place takes


def require_bounded(path: Path) -> None:
    """Refuse a workbook that would take more memory or time than the limits allow.

    What is no archive, or a damaged one, is left to openpyxl's reader.

    Raises:
        UserError: Unpacked it is larger; its cells, or its merged ranges, span more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            UNPACKED_BYTES.require(sum(entry.file_size for entry in entries), str(path))
            for entry in entries:
                if entry.filename.lower().endswith(".xml"):
                    _require_bounded(archive, entry, f"{path}: {entry.filename}")
    except UserError:
        raise
    except Exception as error:  # zipfile and what it unpacks with raise anything over a damaged one
        raise_if_machine(error, path)


def _require_bounded(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, what: str) -> None:
    merged = rows = columns = 0
    for left, top, right, bottom, column, row in _places(archive, entry):
        if column:
            rows, columns = max(rows, int(row)), max(columns, _number(column))
        else:
            width, height = _number(right) - _number(left), int(bottom) - int(top)
            merged += (1 + abs(width)) * (1 + abs(height))
    MERGED_CELLS.require(merged, what)
    CELLS.require(rows * columns, f"{what}, from its first to its last cell with something in it")


def _places(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[tuple[bytes, ...]]:
    kept = b""
    with archive.open(entry) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            text, end = kept + chunk, 0
            for found in _PLACES.finditer(text):
                end = found.end()
                yield found.groups(b"")
            kept = text[max(end, len(text) - _OVERLAP) :]


def _number(letters: bytes) -> int:
    """Return the number of a column, 1 for A."""
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - ord("A") + 1
    return number
