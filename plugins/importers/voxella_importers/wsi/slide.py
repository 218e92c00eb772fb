"""A slide as its file tells of it: how far it is magnified, and which tiles lie whole within it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella_importers.wsi.settings import WsiSettings

__all__ = ["SUFFIXES", "Place", "Plan", "SlideError", "plan_of", "slide_files"]

SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".svslide", ".bif"),
    ".czi",
)
# By convention an objective of 10x gives one micrometre per pixel.
_POWER_TIMES_MPP = 10.0
# A slide that calls itself 20x and has 0.4990 um is not enlarged for a tile at 0.5 um.
_TOLERANCE = 0.02


class SlideError(ValueError):
    """Why a slide cannot be cut; the message does not name it."""


@dataclass(frozen=True)
class Place:
    """Where a tile lies.

    Attributes:
        column: From 0, in tiles.
        row: From 0, in tiles.
        x: Left edge in pixels of level 0.
        y: Top edge in pixels of level 0.
    """

    column: int
    row: int
    x: int
    y: int


@dataclass(frozen=True)
class Plan:
    """How a slide is cut.

    Attributes:
        downsample: Pixels of level 0 for one of a tile, along an axis.
        level: Of the file, from which tiles are read.
        level_downsample: Its own.
        size: Columns and rows of level 0.
        side: Pixels along a tile's side.
        mpp: Micrometres for one pixel of a tile; None: not known.
    """

    downsample: float
    level: int
    level_downsample: float
    size: tuple[int, int]
    side: int
    mpp: float | None

    @property
    def footprint(self) -> float:
        """Return a tile's side in pixels of level 0."""
        return self.side * self.downsample

    @property
    def read_side(self) -> int:
        """Return how many pixels of the level are read along a side."""
        return max(1, round(self.footprint / self.level_downsample))

    def places(self) -> Iterator[Place]:
        """Yield every tile that lies whole within the slide, row by row; none is stretched."""
        # Rounding outwards: what is read ends before the slide does.
        reach = self.read_side * self.level_downsample
        columns, rows = (
            int((length - reach) // self.footprint) + 1 if length >= reach else 0
            for length in self.size
        )
        for row in range(rows):
            for column in range(columns):
                x, y = (int(place * self.footprint) for place in (column, row))
                yield Place(column, row, x, y)


def plan_of(slide: Any, name: str, settings: WsiSettings) -> Plan:  # noqa: ANN401 - an OpenSlide
    """Return how an open slide is cut.

    Args:
        slide: An :class:`openslide.OpenSlide`.
        name: The slide's.
        settings: What is asked for.

    Raises:
        SlideError: It does not say how far it is magnified, and nothing given does; more is asked
            for than it has; or not one tile fits.
    """
    power, mpp = _power(slide, name, settings), _mpp(slide, name, settings)
    if settings.mpp is not None:
        if mpp is None:
            raise SlideError(
                "does not say how many micrometres a pixel is; give it: "
                f"--set 'slide_mpp={{{name}: 0.25}}' (or one number for all)"
            )
        downsample, told = settings.mpp / mpp, f"{mpp:g} um per pixel, {settings.mpp:g} asked for"
    else:
        asked = float(settings.magnification or 0)
        power = _POWER_TIMES_MPP / mpp if power is None and mpp is not None else power
        if power is None:
            raise SlideError(
                "names neither its objective's power nor micrometres per pixel; give one: "
                f"--set 'slide_magnification={{{name}: 40}}' (or one number for all), or slide_mpp"
            )
        downsample, told = power / asked, f"{power:g}x, {asked:g}x asked for"
    if downsample < 1 - _TOLERANCE:
        raise SlideError(f"is coarser than its tiles would be ({told}): nothing is enlarged")
    downsample = max(1.0, downsample)
    level = int(slide.get_best_level_for_downsample(downsample * (1 + _TOLERANCE)))
    plan = Plan(
        downsample=downsample,
        level=level,
        level_downsample=float(slide.level_downsamples[level]),
        size=(int(slide.dimensions[0]), int(slide.dimensions[1])),
        side=settings.side,
        mpp=None if mpp is None else mpp * downsample,
    )
    if next(plan.places(), None) is None:
        columns, rows = plan.size
        raise SlideError(
            f"of {columns} x {rows} pixels holds no whole tile of {plan.footprint:g} of them"
        )
    return plan


def _power(slide: Any, name: str, settings: WsiSettings) -> float | None:  # noqa: ANN401
    # What the user says counts before what the file says.
    given = settings.slide_magnification.of_slide(name)
    return given or _number(slide.properties.get("openslide.objective-power"))


def _mpp(slide: Any, name: str, settings: WsiSettings) -> float | None:  # noqa: ANN401
    if given := settings.slide_mpp.of_slide(name):
        return given
    x, y = (_number(slide.properties.get(f"openslide.mpp-{axis}")) for axis in "xy")
    if x is not None and y is not None and abs(x - y) > _TOLERANCE * x:
        raise SlideError(f"has pixels that are not square: {x:g} x {y:g} um")
    return x


def _number(told: str | None) -> float | None:
    try:
        number = float(told or "")
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def slide_files(folder: Path) -> list[Path]:
    """Return the files of slides below a folder, by name."""
    every = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in every if path.is_file())
