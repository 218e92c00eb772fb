"""What single cells of a table mean: numbers, splits, and files."""

from __future__ import annotations

import os
import re
import unicodedata
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
    """Return a file that a cell names, as another system may have written its name.

    Windows parts folders with backslashes; macOS writes an accent as a character of its own.
    """
    names = [cell]
    if "\\" in cell and os.sep == "/":
        names.append(cell.replace("\\", "/"))
    if not cell.isascii():
        names += [unicodedata.normalize(form, names[-1]) for form in ("NFC", "NFD")]
    # A cell may be too long for a name, or hold NUL: asking a Path for it would raise.
    there = (folder / name for name in names if os.path.exists(folder / name))
    return next(there, folder / names[min(1, len(names) - 1)])


def number_or_text(cell: str, *, decimal_comma: bool) -> int | float | str:
    """Read a number where the cell is one; ``007`` is a code and stays text."""
    number = cell.replace(",", ".") if decimal_comma and cell.count(",") == 1 else cell
    if re.fullmatch(r"[+-]?(0|[1-9]\d*)", number):
        return int(number)
    if re.fullmatch(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", number):
        return float(number)
    return cell
