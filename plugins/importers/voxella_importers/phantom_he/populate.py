"""Which nuclei a tile has, of which kind and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxella_importers.phantom_he.facts import TileFacts
from voxella_importers.phantom_he.nuclei import Nuclei, inside, joined, without
from voxella_importers.phantom_he.texture import Grid, Plane, noise, scattered
from voxella_importers.phantom_he.tissue import Acinus, Tissue

__all__ = ["Kind", "populate"]

_RADIUS_UM = (3.4, 4.2, 5.1)  # of tumour nuclei by atypia
_VARIED = (0.07, 0.13, 0.22)
_DARK = (0.76, 0.79, 0.79)
_ROUGH = (0.16, 0.24, 0.34)
_LYMPHOCYTE_UM = 3.0
_BETWEEN_UM = 6.6  # least distance of lymphocytes, about


@dataclass(frozen=True)
class Kind:
    """Nuclei of one kind, and how they are drawn: see :func:`nuclei.draw`."""

    name: str
    nuclei: Nuclei
    uneven: float
    rim: float
    nucleoli: float
    clumps: float
    halo: float

    def within(self, grid: Grid) -> int:
        """Return how many have their centre in the tile."""
        y, x = self.nuclei.y, self.nuclei.x
        side = grid.side_um
        return int(((y >= 0) & (y < side) & (x >= 0) & (x < side)).sum())


def populate(rng: np.random.Generator, grid: Grid, facts: TileFacts, tissue: Tissue) -> list[Kind]:
    """Return the nuclei in the order in which they are drawn."""
    lymphocytes = _lymphocytes(rng, grid, facts, tissue)
    tumour = without(_tumour(rng, grid, facts, tissue), lymphocytes, 0.8)
    spindles = without(_spindles(rng, grid, facts, tissue), lymphocytes, 0.8)
    lining = _lining(rng, grid, tissue)
    debris = _debris(rng, grid, tissue)
    atypia = facts.atypia - 1
    return [
        Kind("stroma", spindles, 0.12, 0.1, 0.0, 0.15, 0.0),
        Kind("glands", lining, 0.08, 0.25, 0.0, 0.18, 0.0),
        Kind("debris", debris, 0.25, 0.0, 0.0, 0.3, 0.0),
        Kind("tumour", tumour, 0.04 + 0.06 * atypia, 0.5, 0.5 * atypia, _ROUGH[atypia], 0.0),
        Kind("lymphocytes", lymphocytes, 0.11, 0.08, 0.0, 0.2, 0.6),
    ]


def _kind(
    rng: np.random.Generator,
    y: Plane,
    x: Plane,
    radius: tuple[float, float],
    longish: tuple[float, float],
    dark: tuple[float, float],
) -> Nuclei:
    """Return nuclei at places; radius and dark are mean and share of deviation."""
    count = len(y)
    normal = rng.standard_normal((2, count), dtype=np.float32)
    uniform = rng.random((2, count), dtype=np.float32)
    low, high = longish
    return Nuclei(
        y=y.astype(np.float32),
        x=x.astype(np.float32),
        radius=(radius[0] * np.exp(radius[1] * normal[0])).astype(np.float32),
        longish=(low + (high - low) * uniform[0]).astype(np.float32),
        angle=(np.pi * uniform[1]).astype(np.float32),
        dark=(dark[0] * np.exp(dark[1] * normal[1])).astype(np.float32),
    )


def _tumour(rng: np.random.Generator, grid: Grid, facts: TileFacts, tissue: Tissue) -> Nuclei:
    atypia = facts.atypia - 1
    found = tissue.cells
    nuclei = _kind(
        rng,
        found.y,
        found.x,
        (_RADIUS_UM[atypia], _VARIED[atypia]),
        (1.0, 1.3 + 0.15 * atypia),
        (_DARK[atypia], 0.09 + 0.05 * atypia),
    )
    return nuclei.only(inside(grid, nuclei, tissue.tumour & ~tissue.lumen))


def _spindles(rng: np.random.Generator, grid: Grid, facts: TileFacts, tissue: Tissue) -> Nuclei:
    y, x = scattered(rng, grid, 16.0 + 5.0 * facts.collagen, jitter=0.45)
    nuclei = _kind(rng, y, x, (2.1, 0.22), (1.8, 5.0), (1.0, 0.25))
    # Along one direction, as fibres lie, with some that do not keep to it.
    lie = np.float32(rng.uniform(0, np.pi))
    turned = lie + np.float32(0.35) * rng.standard_normal(len(nuclei), dtype=np.float32)
    nuclei = Nuclei(
        nuclei.y, nuclei.x, nuclei.radius, nuclei.longish, turned.astype(np.float32), nuclei.dark
    )
    kept = inside(grid, nuclei, tissue.stroma) & (rng.random(len(nuclei)) < 0.65)
    return nuclei.only(kept)


def _lining(rng: np.random.Generator, grid: Grid, tissue: Tissue) -> Nuclei:
    """Return the nuclei of normal glands: an inner ring, and a flat one about it."""
    empty = np.zeros(0, np.float32)
    whole = _kind(rng, empty, empty, (3.0, 0.08), (1.0, 1.2), (0.95, 0.1))
    for acinus in tissue.acini:
        whole = joined(whole, _ring(rng, acinus, 4.6, 6.3, (3.0, 1.25)))
        whole = joined(whole, _ring(rng, acinus, 9.2, 11.0, (1.9, 2.6)))
    return whole.only(inside(grid, whole, tissue.epithelium | tissue.stroma))


def _ring(
    rng: np.random.Generator,
    acinus: Acinus,
    out_um: float,
    apart_um: float,
    shape: tuple[float, float],
) -> Nuclei:
    radius = acinus.radius + out_um
    count = max(4, int(2 * np.pi * radius / apart_um))
    angle = (np.arange(count) + rng.uniform(-0.2, 0.2, count)) * (2 * np.pi / count)
    off = radius + rng.normal(0, 0.7, count)
    y, x = acinus.y + off * np.sin(angle), acinus.x + off * np.cos(angle)
    nuclei = _kind(
        rng,
        y.astype(np.float32),
        x.astype(np.float32),
        (shape[0], 0.08),
        (shape[1], shape[1] * 1.2),
        (0.95, 0.14),
    )
    # The inner ring stands on the basement membrane, the outer one lies along it.
    turn = angle if out_um < 7.0 else angle + np.pi / 2
    return Nuclei(
        nuclei.y,
        nuclei.x,
        nuclei.radius,
        nuclei.longish,
        turn.astype(np.float32),
        nuclei.dark,
    )


def _debris(rng: np.random.Generator, grid: Grid, tissue: Tissue) -> Nuclei:
    y, x = scattered(rng, grid, 9.0, jitter=0.45)
    nuclei = _kind(rng, y, x, (1.1, 0.4), (1.0, 1.8), (0.8, 0.3))
    return nuclei.only(inside(grid, nuclei, tissue.necrosis) & (rng.random(len(nuclei)) < 0.6))


def _lymphocytes(rng: np.random.Generator, grid: Grid, facts: TileFacts, tissue: Tissue) -> Nuclei:
    """Return exactly as many lymphocytes as are asked for, in crowds, most of them in stroma."""
    y, x = scattered(rng, grid, _BETWEEN_UM, jitter=0.3)
    side = grid.side_um
    within = (y >= 1) & (y < side - 1) & (x >= 1) & (x < side - 1)
    y, x = y[within], x[within]
    nuclei = _kind(rng, y, x, (_LYMPHOCYTE_UM, 0.1), (1.0, 1.3), (1.45, 0.12))
    crowd = noise(rng, grid, 24.0)
    liking = np.where(tissue.stroma, np.float32(1.6), np.float32(0.0))
    liking = np.where(tissue.lumen | tissue.fat | tissue.necrosis, np.float32(-4.0), liking)
    liking = np.where(tissue.epithelium, np.float32(-3.0), liking)
    row, column = (np.clip((c / grid.mpp).astype(np.intp), 0, grid.pixels - 1) for c in (y, x))
    wish = (crowd + liking)[row, column] + 0.5 * rng.gumbel(size=len(y))
    count = min(round(facts.til_per_mm2 * grid.area_mm2), len(y))
    kept = np.zeros(len(y), bool)
    kept[np.argsort(-wish, kind="stable")[:count]] = True
    return nuclei.only(kept)
