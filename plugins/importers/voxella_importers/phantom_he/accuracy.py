"""How often the probe is right on fresh tiles: the table of docs/reference/phantom_he.md.

``python -m voxella_importers.phantom_he.accuracy SEED TILES PIXELS MPP``
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella_importers.captions import CaptionRule
from voxella_importers.phantom.settings import stream
from voxella_importers.phantom_he.detect import TileSighting, look_at_tile
from voxella_importers.phantom_he.facts import draw_slide, draw_tile
from voxella_importers.phantom_he.populate import populate
from voxella_importers.phantom_he.settings import HESettings
from voxella_importers.phantom_he.texture import Grid
from voxella_importers.phantom_he.tile import Tile, render
from voxella_importers.phantom_he.tissue import lay_out, stain_ground
from voxella_importers.phantom_he.truth import TIL_PER_MM2, TUMOUR

__all__ = ["Drawn", "accuracy", "agreement", "tiles"]

_USAGE = "usage: python -m voxella_importers.phantom_he.accuracy SEED TILES PIXELS MPP"
_PER_SLIDE = 2


@dataclass(frozen=True)
class Drawn:
    """A tile with what only its drawing knows: the mask of tumour, the lymphocytes' places."""

    image: NDArray[np.float64]
    tumour: NDArray[np.bool_]
    lymphocytes: NDArray[np.float64]


def tiles(seed: int, count: int, pixels: int, mpp: float) -> Iterator[tuple[Tile, Drawn]]:
    """Yield fresh tiles with their masks."""
    settings = HESettings(
        slides=-(-count // _PER_SLIDE),
        tiles=_PER_SLIDE,
        seed=seed,
        pixels=pixels,
        mpp=mpp,
        tumour_share=0.5,
        til_share=0.5,
        missing_probabilities=0.0,
        text="caption",
        rule=CaptionRule(),
        val_share=0.1,
        test_share=0.15,
        workers=1,
    )
    grid = Grid(pixels, mpp)
    for index in range(count):
        slide = draw_slide(seed, index // _PER_SLIDE)
        facts = draw_tile(settings, slide, index // _PER_SLIDE, index % _PER_SLIDE)
        tile = render(seed, facts, slide.stain, grid)
        # The same draws in the same order as render has them.
        rng = stream(seed, facts.id, "render")
        tissue = lay_out(rng, grid, facts)
        stain_ground(rng, grid, facts, tissue)
        kinds = {kind.name: kind.nuclei for kind in populate(rng, grid, facts, tissue)}
        found = kinds["lymphocytes"]
        places = np.stack([found.y, found.x], axis=-1).astype(np.float64) / mpp - 0.5
        yield tile, Drawn(tile.image / 255.0, tissue.tumour, places)


def agreement(pairs: list[tuple[Tile, TileSighting]]) -> tuple[float, float]:
    """Return how often the levels of tumour and of lymphocytes are told right."""
    tumour = [(t.tumour >= TUMOUR) == (s.tumour >= TUMOUR) for t, s in pairs]
    til = [(t.til_per_mm2 >= TIL_PER_MM2) == (s.til_per_mm2 >= TIL_PER_MM2) for t, s in pairs]
    return float(np.mean(tumour)), float(np.mean(til))


def accuracy(seed: int, count: int, pixels: int, mpp: float) -> list[str]:
    """Return lines: how often levels are told right, and errors of share and density."""
    pairs = [
        (tile, look_at_tile(drawn.image, mpp)) for tile, drawn in tiles(seed, count, pixels, mpp)
    ]
    tumour, til = agreement(pairs)
    share = [abs(t.tumour - s.tumour) for t, s in pairs]
    told = np.array([t.til_per_mm2 for t, _ in pairs])
    seen = np.array([s.til_per_mm2 for _, s in pairs])
    return [
        f"level of tumour right: {tumour:.3f} of {count}",
        f"level of lymphocytes right: {til:.3f} of {count}",
        f"share of tumour, mean absolute error: {np.mean(share):.3f}",
        f"lymphocytes per mm2, correlation: {np.corrcoef(told, seen)[0, 1]:.3f}, "
        f"mean told {told.mean():.0f}, seen {seen.mean():.0f}",
    ]


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(_USAGE)
    seed, count, pixels = (int(word) for word in sys.argv[1:4])
    print(*accuracy(seed, count, pixels, float(sys.argv[4])), sep="\n")
