"""Where a tile is tumour, necrosis, gland, fat and stroma, and what these look like unpopulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom_he.facts import TileFacts
from voxella_importers.phantom_he.texture import Cells, Grid, Plane, cells, fibres, noise, scattered

__all__ = ["Acinus", "Tissue", "lay_out", "stain_ground"]

Mask = NDArray[np.bool_]
_EPITHELIUM_UM = 10.0
_FAT_CELL_UM = 55.0
_TUMOUR_CELL_UM = (10.5, 12.5, 14.5)  # distance of neighbours by atypia


@dataclass(frozen=True)
class Acinus:
    """A normal gland cut across, in micrometres; ``radius`` is that of its lumen."""

    y: float
    x: float
    radius: float


@dataclass(frozen=True)
class Tissue:
    """The parts of a tile; masks and fields are ``(n, n)``.

    Attributes:
        tumour: Viable tumour, its lumina among it.
        necrosis: Dead tumour.
        depth: Of the tumour field: 0 at the outline of a nest, growing inwards.
        fat: Fat cells.
        lumen: Lumina of glands and of tumour.
        epithelium: Of normal glands.
        stroma: All else.
        acini: The normal glands.
        cells: Tumour cells, of the whole tile.
    """

    tumour: Mask
    necrosis: Mask
    depth: Plane
    fat: Mask
    fat_border: Plane
    lumen: Mask
    epithelium: Mask
    stroma: Mask
    acini: tuple[Acinus, ...]
    cells: Cells


def lay_out(rng: np.random.Generator, grid: Grid, facts: TileFacts) -> Tissue:
    """Divide a tile; the tumour and the necrosis have the asked shares to the pixel."""
    field = _nests(rng, grid, cords=facts.cords)
    dead = noise(rng, grid, 50.0) + np.float32(0.3) * noise(rng, grid, 9.0)
    whole = facts.tumour + facts.necrosis
    level = _top(field, whole)
    mass = field > level if whole > 0 else np.zeros(field.shape, bool)
    necrosis = np.zeros_like(mass)
    if facts.necrosis > 0:
        dead = np.where(mass, dead, np.float32(-99.0)).astype(np.float32)
        necrosis = dead > _top(dead, facts.necrosis)
    tumour = mass & ~necrosis
    depth = field - np.float32(level)
    acini, gland, inner = _glands(rng, grid, facts, mass)
    free = ~mass & ~gland
    fat, fat_border = _fat(rng, grid, facts, free)
    tumour_cells = cells(rng, grid, _TUMOUR_CELL_UM[facts.atypia - 1])
    lumen = inner | (tumour & _tubules(rng, grid) if facts.tubules else np.zeros_like(mass))
    return Tissue(
        tumour=tumour,
        necrosis=necrosis,
        depth=depth,
        fat=fat,
        fat_border=fat_border,
        lumen=lumen,
        epithelium=gland & ~inner,
        stroma=free & ~fat,
        acini=acini,
        cells=tumour_cells,
    )


def _nests(rng: np.random.Generator, grid: Grid, *, cords: bool) -> Plane:
    if cords:
        bands = -np.abs(noise(rng, grid, 38.0)) - np.float32(0.5) * np.abs(noise(rng, grid, 30.0))
        return np.asarray(bands + np.float32(0.35) * noise(rng, grid, 60.0), np.float32)
    broad = noise(rng, grid, 48.0)
    return np.asarray(broad + np.float32(0.16) * noise(rng, grid, 14.0), np.float32)


def _top(field: Plane, share: float) -> float:
    """Return the level above which ``share`` of the pixels lie."""
    count = round(share * field.size)
    if count <= 0:
        return float(field.max())
    if count >= field.size:
        return float(np.nextafter(field.min(), np.float32(-np.inf)))
    return float(np.partition(field.ravel(), field.size - count - 1)[field.size - count - 1])


def _glands(
    rng: np.random.Generator, grid: Grid, facts: TileFacts, mass: Mask
) -> tuple[tuple[Acinus, ...], Mask, Mask]:
    """Place acini of a lobule off the tumour; return them, their whole and their lumina."""
    gland, inner = np.zeros_like(mass), np.zeros_like(mass)
    if facts.glands <= 0:
        return (), gland, inner
    y, x = grid.axes()
    wobble = noise(rng, grid, 12.0) * np.float32(1.5)
    acini: list[Acinus] = []
    wanted = facts.glands * float((~mass).sum())
    heart = rng.uniform(0.2, 0.8, 2) * grid.side_um
    for _ in range(40):
        if gland.sum() >= wanted:
            break
        spread = min(40.0 + 6.0 * len(acini), grid.side_um / 2)
        cy, cx = heart + rng.uniform(-spread, spread, 2)
        radius = float(rng.uniform(3.0, 12.0) if rng.random() < 0.85 else rng.uniform(12.0, 24.0))
        outer = radius + _EPITHELIUM_UM
        if not (0 < cy < grid.side_um and 0 < cx < grid.side_um) or any(
            np.hypot(cy - a.y, cx - a.x) < outer + a.radius + _EPITHELIUM_UM + 4.0 for a in acini
        ):
            continue
        apart = np.sqrt((y - np.float32(cy)) ** 2 + (x - np.float32(cx)) ** 2) + wobble
        disc = apart < outer
        if (disc & mass).any():
            continue
        gland |= disc
        inner |= apart < radius
        acini.append(Acinus(float(cy), float(cx), radius))
    return tuple(acini), gland, inner


def _fat(rng: np.random.Generator, grid: Grid, facts: TileFacts, free: Mask) -> tuple[Mask, Plane]:
    if facts.fat <= 0:
        return np.zeros_like(free), np.zeros(free.shape, np.float32)
    place = np.where(free, noise(rng, grid, 70.0), np.float32(-99.0)).astype(np.float32)
    share = facts.fat * float(free.mean())
    bubbles = cells(rng, grid, _FAT_CELL_UM, jitter=0.25, bend=0.035)
    return free & (place > _top(place, share)), bubbles.border


def _tubules(rng: np.random.Generator, grid: Grid) -> Mask:
    spots = scattered(rng, grid, 34.0, jitter=0.3)
    y, x = grid.axes()
    open_ = np.zeros((grid.pixels, grid.pixels), bool)
    wobble = noise(rng, grid, 6.0)
    for cy, cx in zip(*spots, strict=True):
        radius = np.float32(rng.uniform(3.0, 7.5))
        low = [max(0, int((c - 2 * radius) / grid.mpp)) for c in (cy, cx)]
        high = [int((c + 2 * radius) / grid.mpp) + 1 for c in (cy, cx)]
        if min(high) <= 0:
            continue
        part = np.s_[low[0] : high[0], low[1] : high[1]]
        apart = np.hypot(y[low[0] : high[0]] - cy, x[:, low[1] : high[1]] - cx)
        open_[part] |= apart + np.float32(1.4) * wobble[part] < radius
    return open_


def stain_ground(
    rng: np.random.Generator, grid: Grid, facts: TileFacts, tissue: Tissue
) -> tuple[Plane, Plane]:
    """Return the densities of haematoxylin and eosin before any nucleus is drawn."""
    grain = noise(rng, grid, max(1.1, 1.5 * grid.mpp))
    cloud = noise(rng, grid, 22.0)
    dense = np.float32(facts.collagen)
    bands = fibres(rng, grid, across_um=2.4, along_um=30.0, wave_um=6.0)
    thick = fibres(rng, grid, across_um=8.0, along_um=60.0, wave_um=8.0)
    fibrils = fibres(rng, grid, across_um=max(0.9, 0.9 * grid.mpp), along_um=11.0, wave_um=6.0)
    # Stroma: collagen in bands, with clefts where two bands part.
    eosin = np.float32(0.4) + 0.2 * dense + (0.07 + 0.04 * dense) * bands + 0.09 * thick
    eosin = eosin + np.float32(0.03) * cloud + (0.06 + 0.03 * dense) * fibrils
    cleft = np.clip((-bands - np.float32(0.8 + 0.7 * facts.collagen)) * 1.6, 0, 1)
    cleft = np.maximum(cleft, np.clip((-thick - np.float32(1.1 + facts.collagen)) * 3.0, 0, 1))
    eosin = eosin * (1 - np.float32(0.85) * cleft)
    haem = np.float32(0.045) + 0.02 * np.clip(cloud, -1, 2)
    # Tumour: purplish cytoplasm, cell borders a little denser, nests retracted from the stroma.
    border = np.clip(1 - tissue.cells.border / np.float32(max(0.7, 0.7 * grid.mpp)), 0, 1)
    plump = np.clip(tissue.cells.border / np.float32(3.0), 0, 1)
    flesh = np.float32(0.56) + 0.045 * grain + 0.05 * cloud + 0.09 * border - 0.06 * plump
    nest = tissue.tumour
    eosin = np.where(nest, flesh, eosin)
    haem = np.where(nest, np.float32(0.27) + 0.05 * grain + 0.03 * cloud, haem)
    gap = np.clip(1 - np.abs(tissue.depth + np.float32(0.03)) / np.float32(0.05), 0, 1)
    gap = gap * np.clip(cloud + np.float32(0.1), 0, 1) * ~tissue.necrosis
    eosin = eosin * (1 - np.float32(0.75) * gap)
    haem = haem * (1 - np.float32(0.75) * gap)
    ghost = np.float32(0.66) + 0.10 * grain + 0.06 * cloud
    eosin = np.where(tissue.necrosis, ghost, eosin)
    haem = np.where(tissue.necrosis, np.float32(0.09) + 0.04 * grain, haem)
    eosin = np.where(tissue.epithelium, np.float32(0.48) + 0.05 * grain, eosin)
    haem = np.where(tissue.epithelium, np.float32(0.12) + 0.03 * grain, haem)
    wall = np.clip(1 - tissue.fat_border / np.float32(max(1.1, 0.9 * grid.mpp)), 0, 1)
    eosin = np.where(tissue.fat, np.float32(0.02) + 0.3 * wall, eosin)
    haem = np.where(tissue.fat, np.float32(0.01) + 0.06 * wall, haem)
    eosin = np.where(tissue.lumen, np.float32(0.03), eosin)
    haem = np.where(tissue.lumen, np.float32(0.01), haem)
    return np.maximum(haem, 0).astype(np.float32), np.maximum(eosin, 0).astype(np.float32)
