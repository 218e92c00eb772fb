"""A slide's truth as JSON: what is so of the specimen, and what was drawn in each tile."""

from __future__ import annotations

import json
import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from voxella.errors import UserError
from voxella.limits import TEXT_BYTES
from voxella_importers.phantom.settings import stream
from voxella_importers.phantom_he.facts import SlideFacts, TileFacts
from voxella_importers.phantom_he.tile import Tile

__all__ = ["TIL_PER_MM2", "TUMOUR", "SlideTruth", "TileTruth", "probabilities", "read_slide"]

# Where the probabilities are a half: share of the tile, lymphocytes per square millimetre.
TUMOUR = 0.4
TIL_PER_MM2 = 1000.0
_STEEP = 14.0  # of the logit, per share of the tile
_TIL_STEEP = 3.2  # of the logit, per factor e of density
_DOUBT = 0.35  # deviation of a classifier's logit
_LEAST_TIL = 20.0


class TileTruth(BaseModel):
    """What was drawn, and what a classifier would say of it.

    Attributes:
        id: Of the tile.
        tumour: Share of pixels that are viable tumour.
        necrosis: Share of pixels that are necrotic.
        lymphocytes: In the tile.
        til_per_mm2: Lymphocytes per square millimetre.
        atypia: Of the tumour's nuclei, 1 to 3.
        prob_tumor: Probability of tumour; None where it is missing.
        prob_til: Probability of lymphocytes; likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: str
    tumour: float
    necrosis: float
    lymphocytes: int
    til_per_mm2: float
    atypia: int
    prob_tumor: float | None
    prob_til: float | None


class SlideTruth(SlideFacts):
    """The facts of a slide, and the truth of its tiles.

    Attributes:
        settings_sha256: Of the settings that decide its files.
        mpp: Micrometres per pixel.
        tiles: In order.
        files: SHA-256 by path, relative to the data set.
    """

    settings_sha256: str
    mpp: float
    tiles: tuple[TileTruth, ...]
    files: dict[str, str]

    @classmethod
    def of(
        cls,
        facts: SlideFacts,
        tiles: tuple[TileTruth, ...],
        *,
        mpp: float,
        settings_sha256: str,
        files: dict[str, str],
    ) -> SlideTruth:
        """Return the truth of a slide that was written."""
        return cls.model_validate(
            facts.model_dump()
            | {"tiles": tiles, "mpp": mpp, "settings_sha256": settings_sha256, "files": files}
        )


def tile_truth(seed: int, facts: TileFacts, tile: Tile, *, missing: float) -> TileTruth:
    """Return the truth of a tile that was drawn.

    Args:
        seed: Of the data set.
        facts: What was to be drawn.
        tile: What was drawn.
        missing: Share of tiles of which each probability is missing.
    """
    rng = stream(seed, facts.id, "probabilities")
    absent = rng.random(2) < missing
    tumor, til = probabilities(tile, float(rng.standard_normal()), float(rng.standard_normal()))
    return TileTruth(
        id=facts.id,
        tumour=round(tile.tumour, 4),
        necrosis=round(tile.necrosis, 4),
        lymphocytes=tile.lymphocytes,
        til_per_mm2=round(tile.til_per_mm2, 1),
        atypia=facts.atypia,
        prob_tumor=None if absent[0] else tumor,
        prob_til=None if absent[1] else til,
    )


def probabilities(tile: Tile, first: float, second: float) -> tuple[float, float]:
    """Return a classifier's probabilities of tumour and of lymphocytes.

    Args:
        tile: What was drawn.
        first: Of a standard normal distribution: the classifier's doubt about tumour.
        second: Likewise about lymphocytes.
    """
    tumour = _STEEP * (tile.tumour - TUMOUR) + _DOUBT * first
    til = _TIL_STEEP * math.log(max(tile.til_per_mm2, _LEAST_TIL) / TIL_PER_MM2) + _DOUBT * second
    return round(1 / (1 + math.exp(-tumour)), 4), round(1 / (1 + math.exp(-til)), 4)


def read_slide(path: Path) -> SlideTruth:
    """Read a slide's truth.

    Raises:
        UserError: The file is gone or is none.
    """
    try:
        return SlideTruth.model_validate(json.loads(TEXT_BYTES.read(path)))
    except (OSError, ValueError, ValidationError) as error:
        raise UserError(
            f"{path}: no truth of an H&E phantom's slide ({type(error).__name__})",
            remedy="import phantom_he again into the same folder: it makes what is missing",
        ) from error
