"""WSInfer's tables: a probability for each window of a slide, in pixels of level 0."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxella.limits import TEXT_BYTES

__all__ = ["Windows", "read_windows"]

_BOX = ("minx", "miny", "width", "height")


@dataclass(frozen=True)
class Windows:
    """A slide's windows.

    Attributes:
        boxes: ``(N, 4)``: left, top, right, bottom.
        probabilities: ``(N,)``.
    """

    boxes: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    def mean_over(self, x: float, y: float, side: float) -> float | None:
        """Return the mean over the windows that overlap a square; None where none does.

        Each counts the same, however much of it lies within: the paper's rule. Windows that only
        touch the square do not count.
        """
        left, top, right, bottom = self.boxes.T
        meets = (left < x + side) & (right > x) & (top < y + side) & (bottom > y)
        return float(self.probabilities[meets].mean()) if meets.any() else None


def read_windows(path: Path, column: str) -> Windows:
    """Read a table of WSInfer's.

    Args:
        path: The CSV file.
        column: Of the probability, such as ``prob_Tumor``.

    Raises:
        ValueError: Columns are absent, or a cell is no number that can stand there; names the file
            and the first such line.
    """
    try:
        rows = csv.DictReader(io.StringIO(TEXT_BYTES.read(path).decode("utf-8-sig"), newline=""))
        wanted = (*_BOX, column)
        absent = [name for name in wanted if name not in (rows.fieldnames or ())]
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path.name}: no CSV file") from None
    if absent:
        there = ", ".join(name for name in rows.fieldnames or () if name.startswith("prob_"))
        raise ValueError(
            f"{path.name}: no column {', '.join(absent)}; its probabilities: {there or 'none'} "
            "(choose: --set 'columns={tumor: NAME, til: NAME}')"
        )
    found: list[list[float]] = []
    for row in rows:
        try:
            numbers = [float(row[name]) for name in wanted]
        except (TypeError, ValueError):
            raise ValueError(f"{path.name}: line {rows.line_num} holds no number") from None
        if not (np.isfinite(numbers).all() and min(numbers[2:4]) > 0 and 0 <= numbers[4] <= 1):
            raise ValueError(
                f"{path.name}: line {rows.line_num}: a window has a width and a height above 0 and "
                "a probability from 0 to 1"
            )
        found.append(numbers)
    table = np.asarray(found, dtype=np.float64).reshape(-1, len(wanted))
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Windows(boxes, table[:, 4])
