"""A slide's tiles: read, judged, encoded, stored; each slide in a process of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from voxella.data.tile_store import Tile, TileStore
from voxella.machine import raise_if_machine
from voxella_importers.tile_cases import TIL, TUMOR
from voxella_importers.wsi.probabilities import read_windows
from voxella_importers.wsi.settings import CONCEPTS, WsiSettings
from voxella_importers.wsi.slide import Place, Plan, plan_of

__all__ = ["COLUMNS", "Job", "cut_slide", "edge_response", "tissue_share"]

COLUMNS = ("x", "y", "mpp", "tissue", TUMOR, TIL)
_WHITE = (255, 255, 255)
# Eosin and haematoxylin take from one colour more than from another; glass, pen and folds do not.
_SATURATED = 20
_DARK = 30


@dataclass(frozen=True)
class Job:
    """One slide to be cut.

    Attributes:
        slide: Its id.
        path: Its file.
        out: The data set's folder.
        settings: What is asked for.
        facts: What the tiles are made from.
    """

    slide: str
    path: Path
    out: Path
    settings: WsiSettings
    facts: str


def cut_slide(job: Job) -> str | None:
    """Store a slide's tiles; return what is wrong with it, or None."""
    from openslide import OpenSlide, OpenSlideError

    store = TileStore(job.out, COLUMNS)
    try:
        with OpenSlide(job.path) as slide:
            plan = plan_of(slide, job.slide, job.settings)
            store.write(job.slide, _tiles(slide, plan, job), job.facts)
    except (OpenSlideError, ValueError) as error:
        raise_if_machine(error, job.path)
        return str(error)
    return None


def _tiles(slide: Any, plan: Plan, job: Job) -> Iterator[Tile]:  # noqa: ANN401 - an OpenSlide
    settings = job.settings
    windows = {}
    for name, folder in {"tumor": settings.tumor, "til": settings.til}.items():
        if folder is not None and (table := folder / f"{job.slide}.csv").is_file():
            column = settings.columns.get(name, CONCEPTS[name])
            windows[f"prob_{name}"] = read_windows(table, column)
    kept = 0
    for place in plan.places():
        image = _read(slide, plan, place)
        share = tissue_share(np.asarray(image))
        if share < settings.tissue or edge_response(image) < settings.edges:
            continue
        edges = (place.x, place.y, plan.footprint)
        known = {name: found.mean_over(*edges) for name, found in windows.items()}
        values = {"x": place.x, "y": place.y, "mpp": plan.mpp, "tissue": share, **known}
        data, suffix = _encoded(image, settings.quality)
        yield Tile(f"{place.column}_{place.row}", data, suffix, values)
        kept += 1
        if kept == settings.most_tiles:
            return


def _read(slide: Any, plan: Plan, place: Place) -> Image.Image:  # noqa: ANN401 - an OpenSlide
    side = plan.read_side
    region = slide.read_region((place.x, place.y), plan.level, (side, side))
    # What was not scanned is transparent: glass.
    image = Image.new("RGB", region.size, _WHITE)
    image.paste(region, mask=region.getchannel("A"))
    if side == plan.side:
        return image
    # Lanczos of Pillow smooths as it shrinks.
    return image.resize((plan.side, plan.side), Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, quality: int | None) -> tuple[bytes, str]:
    packed = io.BytesIO()
    if quality is None:
        image.save(packed, format="PNG", compress_level=4)
        return packed.getvalue(), ".png"
    # Full resolution of colours: stain is colour.
    image.save(packed, format="JPEG", quality=quality, subsampling=0)
    return packed.getvalue(), ".jpg"


def tissue_share(pixels: NDArray[np.uint8]) -> float:
    """Return the share of pixels that are stained.

    Args:
        pixels: ``(rows, columns, 3)``.
    """
    high, low = pixels.max(axis=2), pixels.min(axis=2)
    stained = (high - low >= _SATURATED) & (high > _DARK)
    return float(stained.mean())


def edge_response(image: Image.Image) -> float:
    """Return the mean response to Pillow's edge filter, summed over colours, as DSMIL's tiler.

    Less the outermost pixels, which the filter leaves as they are: an even tile has no edges.
    """
    found = np.asarray(image.filter(ImageFilter.FIND_EDGES), dtype=np.float64)
    return float(found[1:-1, 1:-1].sum(axis=2).mean())
