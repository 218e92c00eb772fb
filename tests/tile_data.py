"""Small tiles in colour as PNG files with their table, made with Pillow and nothing of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["tile", "tiles_table"]

_SPLITS = ("train", "train", "val", "test")


def tile(seed: int, edge: int = 20) -> NDArray[np.uint8]:
    """Pink ground with violet discs, as an H&E stain: ``(rows, columns, 3)``."""
    generator = np.random.default_rng(seed)
    pixels = np.full((edge, edge, 3), (235, 170, 205), np.float64)
    rows, columns = np.mgrid[:edge, :edge]
    for _ in range(6):
        row, column = generator.uniform(0, edge, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < generator.uniform(2, 9)
        pixels[disc] = (90, 60, 140)
    noisy = pixels + generator.normal(0, 4, pixels.shape)
    return np.asarray(noisy.clip(0, 255).astype(np.uint8))


def tiles_table(folder: Path, count: int = 12) -> Path:
    """Write the tiles and the table of them; return the table."""
    folder.mkdir(parents=True)
    lines = ["id,patient,tile,label,split"]
    for number in range(count):
        Image.fromarray(tile(number)).save(folder / f"{number}.png")
        label = ("negative", "positive")[number // 4 % 2]
        lines.append(f"t{number:02d},s{number},{number}.png,{label},{_SPLITS[number % 4]}")
    table = folder / "tiles.csv"
    table.write_text("\n".join(lines) + "\n")
    return table
