"""What single cells of a table mean: numbers, splits, and files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from voxella.case import Split

__all__ = ["SPLITS", "located", "number_or_text"]

# What tables call splits, in small letters.
SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def located(folder: Path, cell: str) -> Path:
    """Return a file that a cell names, with the backslashes of a table made on Windows."""
    path = folder / cell
    # A cell may be too long for a name, or hold NUL: asking for it would raise.
    slashed = "\\" in cell and os.sep == "/" and not os.path.exists(path)
    return folder / cell.replace("\\", "/") if slashed else path


def number_or_text(cell: str, *, decimal_comma: bool) -> int | float | str:
    """Read a number where the cell is one; ``007`` is a code and stays text."""
    number = cell.replace(",", ".") if decimal_comma and cell.count(",") == 1 else cell
    if re.fullmatch(r"[+-]?(0|[1-9]\d*)", number):
        return int(number)
    if re.fullmatch(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", number):
        return float(number)
    return cell
