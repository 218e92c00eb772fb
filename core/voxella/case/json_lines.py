"""A file of JSON objects that people add to, line by line: marks, a reader's answers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.files import append_line
from voxella.limits import TEXT_BYTES
from voxella.machine import naming
from voxella.plain_json import parse_json

__all__ = ["add_json_line", "read_json_lines"]


def add_json_line(path: Path, content: Mapping[str, Any]) -> None:
    """Add an object, on the disk when this returns; what a kill has cut before it is removed."""
    if path.is_file():
        _drop_cut_line(path)
    append_line(path, json.dumps(content, ensure_ascii=False))


def read_json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects with the numbers of their lines; none where there is no file.

    A last line without an end was cut by a kill, before anybody was told that it is kept: it does
    not count.

    Raises:
        UserError: Another line is no JSON object; it is named, and nothing of it is quoted.
    """
    if not path.is_file():
        return []
    *lines, _cut = TEXT_BYTES.read(path).split(b"\n")
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            content = parse_json(line.decode("utf-8"))
        except ValueError:  # bytes that are no text, too
            content = None
        if not isinstance(content, dict):
            raise UserError(
                f"{path}, line {number}: not a JSON object",
                remedy="correct or remove this line",
            )
        found.append((number, content))
    return found


def _drop_cut_line(path: Path) -> None:
    with naming(path), path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        size = end = file.tell()
        while end > 0:
            start = max(0, end - 4096)
            file.seek(start)
            place = file.read(end - start).rfind(b"\n")
            if place >= 0:
                end = start + place + 1
                break
            end = start
        if end < size:
            file.truncate(end)
