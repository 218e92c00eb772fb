"""What is so of a slide and of each of its tiles: drawn from (seed, slide, tile), nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from voxella_importers.phantom.settings import stream
from voxella_importers.phantom_he.settings import HESettings
from voxella_importers.phantom_he.stain import Stain, draw_stain

__all__ = ["SlideFacts", "TileFacts", "draw_slide", "draw_tile", "slide_id", "tile_id"]

# Lymphocytes per square millimetre; between the two ranges lies the threshold, 1000.
_TIL_LOW = (0.0, 300.0)
_TIL_HIGH = (2600.0, 5600.0)
_TUMOUR_LOW = (0.0, 0.2)
_TUMOUR_HIGH = (0.65, 0.95)


class SlideFacts(BaseModel):
    """What a pathologist would say of the specimen.

    Attributes:
        id: Of the slide.
        kind: ``ductal`` or ``lobular``.
        grade: Nottingham grade, 1 to 3.
        scores: Tubules, nuclei and mitoses, 1 to 3 each, whose sum gives the grade.
        size_mm: Largest diameter of the tumour.
        side: ``left`` or ``right``.
        positive_nodes: Lymph nodes with metastasis.
        nodes: Lymph nodes examined.
        er: Percent of cells with oestrogen receptors; 0 is negative.
        pr: Percent of cells with progesterone receptors.
        her2: Score of immunohistochemistry, 0 to 3; 2 is equivocal.
        margin_mm: Distance to the nearest margin; 0 is involved.
        vessels: Lymphovascular invasion.
        in_situ: A component of carcinoma in situ.
        necrosis: Tumour necrosis.
        brisk: Many tumour-infiltrating lymphocytes.
        stain: Of the slide.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: str
    kind: str
    grade: int
    scores: tuple[int, int, int]
    size_mm: int
    side: str
    positive_nodes: int
    nodes: int
    er: int
    pr: int
    her2: int
    margin_mm: int
    vessels: bool
    in_situ: bool
    necrosis: bool
    brisk: bool
    stain: Stain


@dataclass(frozen=True)
class TileFacts:
    """What is to be drawn.

    Attributes:
        id: Of the tile.
        tumour: Share of the tile that is tumour.
        til_per_mm2: Lymphocytes per square millimetre of tile.
        atypia: 1 to 3, of the tumour's nuclei.
        tubules: Whether the tumour forms lumina.
        necrosis: Share of the tile that is necrotic.
        cords: Whether the tumour grows in narrow cords.
        glands: Share of what is no tumour that normal glands may take; 0 for none.
        fat: Share of what is no tumour that is fat.
        collagen: Density of the stroma, 0 loose to 1 dense.
    """

    id: str
    tumour: float
    til_per_mm2: float
    atypia: int
    tubules: bool
    necrosis: float
    cords: bool
    glands: float
    fat: float
    collagen: float


def slide_id(index: int) -> str:
    """Return the id of slide ``index``."""
    return f"he{index:05d}"


def tile_id(slide: int, tile: int) -> str:
    """Return the id of a tile."""
    return f"{slide_id(slide)}_{tile:03d}"


def draw_slide(seed: int, index: int) -> SlideFacts:
    """Return the facts of slide ``index``."""
    name = slide_id(index)
    rng = stream(seed, name, "slide")
    lobular = bool(rng.random() < 0.2)
    grade = int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2] if lobular else [0.25, 0.4, 0.35]))
    scores = _scores(rng, grade)
    nodes = int(rng.integers(1, 25))
    positive = int(rng.integers(1, nodes + 1)) if rng.random() < 0.35 else 0
    er = int(rng.integers(1, 11)) * 10 if rng.random() < (0.9, 0.8, 0.5)[grade - 1] else 0
    pr = int(rng.integers(1, 10)) * 10 if er and rng.random() < 0.85 else 0
    return SlideFacts(
        id=name,
        kind="lobular" if lobular else "ductal",
        grade=grade,
        scores=scores,
        size_mm=int(rng.integers(4, 62)),
        side=str(rng.choice(["left", "right"])),
        positive_nodes=positive,
        nodes=nodes,
        er=er,
        pr=pr,
        her2=int(rng.choice([0, 1, 2, 3], p=[0.3, 0.35, 0.15, 0.2])),
        margin_mm=0 if rng.random() < 0.15 else int(rng.integers(1, 15)),
        vessels=bool(rng.random() < 0.3),
        in_situ=bool(rng.random() < 0.5),
        necrosis=bool(rng.random() < (0.05, 0.25, 0.6)[grade - 1]),
        brisk=bool(rng.random() < 0.5),
        stain=draw_stain(stream(seed, name, "stain")),
    )


def _scores(rng: np.random.Generator, grade: int) -> tuple[int, int, int]:
    """Return tubules, nuclei and mitoses whose sum has the grade: 3-5, 6-7, 8-9."""
    fitting = [
        (t, n, m)
        for t in (1, 2, 3)
        for n in (1, 2, 3)
        for m in (1, 2, 3)
        if (t + n + m >= 6) + (t + n + m >= 8) == grade - 1
    ]
    return fitting[int(rng.integers(len(fitting)))]


def draw_tile(settings: HESettings, slide: SlideFacts, index: int, tile: int) -> TileFacts:
    """Return the facts of a tile of a slide."""
    name = tile_id(index, tile)
    rng = stream(settings.seed, name, "tile")
    high = bool(rng.random() < settings.tumour_share)
    share = rng.uniform(*_TUMOUR_HIGH) if high else rng.uniform(*_TUMOUR_LOW)
    if not high and rng.random() < 0.45:
        share = 0.0
    lean = 0.25 if slide.brisk else -0.25
    many = bool(rng.random() < np.clip(settings.til_share + lean, 0.0, 1.0))
    necrosis = 0.0
    if slide.necrosis and high and rng.random() < 0.45:
        necrosis = float(rng.uniform(0.08, 0.3))
        share = min(share, 0.92 - necrosis)
    return TileFacts(
        id=name,
        tumour=round(float(share), 4),
        til_per_mm2=round(float(rng.uniform(*(_TIL_HIGH if many else _TIL_LOW))), 1),
        atypia=slide.scores[1],
        tubules=slide.scores[0] == 1 and slide.kind == "ductal",
        necrosis=round(necrosis, 4),
        cords=slide.kind == "lobular",
        glands=0.0 if high or rng.random() < 0.5 else float(rng.uniform(0.2, 0.6)),
        fat=0.0 if rng.random() < 0.75 else float(rng.uniform(0.2, 0.7)),
        collagen=float(rng.random()),
    )
