"""A tile's facts to its picture, and what was really drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxella_importers.phantom.settings import stream
from voxella_importers.phantom_he.facts import TileFacts
from voxella_importers.phantom_he.nuclei import Drawn, draw
from voxella_importers.phantom_he.populate import populate
from voxella_importers.phantom_he.stain import Stain, colours
from voxella_importers.phantom_he.texture import Grid, Plane, noise
from voxella_importers.phantom_he.tissue import lay_out, stain_ground

__all__ = ["Tile", "render"]

_BLUR_UM = 0.32  # of the optics
_PIXEL = 0.35  # and of a pixel that gathers light from all of its square, in pixels
_SENSOR = 0.012  # deviation of a sensor's noise, of full scale


@dataclass(frozen=True)
class Tile:
    """A drawn tile.

    Attributes:
        image: ``(n, n, 3)`` uint8, rows first.
        tumour: Share of pixels that are viable tumour.
        necrosis: Share of pixels that are necrotic.
        lymphocytes: Lymphocytes whose centre is in the tile.
        til_per_mm2: The same per square millimetre.
    """

    image: NDArray[np.uint8]
    tumour: float
    necrosis: float
    lymphocytes: int
    til_per_mm2: float


def render(seed: int, facts: TileFacts, stain: Stain, grid: Grid) -> Tile:
    """Draw a tile: the same bytes for the same (seed, id, facts, stain, grid)."""
    rng = stream(seed, facts.id, "render")
    tissue = lay_out(rng, grid, facts)
    haem, eosin = stain_ground(rng, grid, facts, tissue)
    population = populate(rng, grid, facts, tissue)
    chromatin = noise(rng, grid, max(0.75, grid.mpp))
    for kind in population:
        drawn = draw(
            rng,
            grid,
            kind.nuclei,
            uneven=kind.uneven,
            rim=kind.rim,
            nucleoli=kind.nucleoli,
            halo=kind.halo > 0,
        )
        haem, eosin = _lay_over(haem, eosin, drawn, chromatin, kind.clumps, kind.halo)
    sigma = float(np.hypot(_BLUR_UM / grid.mpp, _PIXEL))
    haem, eosin = (ndimage.gaussian_filter(p, sigma, truncate=2.5) for p in (haem, eosin))
    light = colours(haem, eosin, stain)
    light += rng.standard_normal(light.shape, dtype=np.float32) * np.float32(_SENSOR)
    image = np.clip(np.rint(light * 255), 0, 255).astype(np.uint8)
    lymphocytes = next(k.within(grid) for k in population if k.name == "lymphocytes")
    return Tile(
        image=image,
        tumour=float(tissue.tumour.mean()),
        necrosis=float(tissue.necrosis.mean()),
        lymphocytes=lymphocytes,
        til_per_mm2=lymphocytes / grid.area_mm2,
    )


def _lay_over(
    haem: Plane, eosin: Plane, drawn: Drawn, chromatin: Plane, clumps: float, halo: float
) -> tuple[Plane, Plane]:
    """Return the densities with nuclei of one kind over what was there."""
    pale = 1 - np.float32(halo) * drawn.halo * (1 - drawn.cover)
    left = pale * (1 - drawn.cover)
    rough = np.clip(1 + np.float32(clumps) * chromatin, 0.3, 1.9)
    # Nuclei take up a little eosin as well.
    return (
        haem * left + drawn.dense * rough,
        eosin * (left + np.float32(0.55) * drawn.cover),
    )
