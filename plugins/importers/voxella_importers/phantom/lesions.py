"""Lesions: what they are, where they fit, and the score that size and conspicuity give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom.gland import OUTSIDE, PERIPHERAL, TRANSITION, Gland, Level, Zone

__all__ = ["Lesion", "Side", "draw_lesion", "draw_lesion_at", "pirads", "resized"]

Side = Literal["right", "left", "midline"]
Floats = NDArray[np.floating]

# The shares of a lesion that must lie in its own zone and in the gland. Large tumours do cross
# from one zone into the other; their centre and most of them do not.
_IN_ZONE, _IN_GLAND = 0.75, 0.95
_MIDLINE_MM = 1.5  # a midline lesion's centre is this near the midline
_LEAST_MM = 5
_CANDIDATES = 900
_TRIED = 24  # centres tried at each size
_PLACES = 40  # sides, zones and levels tried before giving up


@dataclass(frozen=True)
class Lesion:
    """A T2-dark ellipsoid, bent along the capsule, in the gland's frame.

    Attributes:
        side: The patient's side: right is +x.
        zone: Zone of its centre.
        level: Third of the gland that its centre lies in.
        centre: Centre in the gland's frame, mm.
        radii: Semi-axes in mm: along the surface, across it, along S. The first is the longest.
        yaw: Turn of the first semi-axis about +z, radians.
        bend: Half the curvature of the surface it follows, axially and along S, 1/mm.
        conspicuity: 0 invisible to 1 as dark as muscle nearly.
    """

    side: Side
    zone: Zone
    level: Level
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    yaw: float
    bend: tuple[float, float]
    conspicuity: float

    @property
    def size_mm(self) -> float:
        """Return the largest diameter."""
        return 2.0 * self.radii[0]

    @property
    def pirads(self) -> int:
        """Return the lesion's PI-RADS category."""
        return pirads(self.conspicuity, self.size_mm)

    def radius(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Return the distance from the centre in units of the semi-axes: 1 on the surface."""
        dx, dy, dz = (p - c for p, c in zip((x, y, z), self.centre, strict=True))
        along = math.cos(self.yaw) * dx + math.sin(self.yaw) * dy
        across = math.cos(self.yaw) * dy - math.sin(self.yaw) * dx
        # A shear: the lesion follows the capsule and keeps its volume.
        across = across + self.bend[0] * along * along + self.bend[1] * dz * dz
        a, b, c = self.radii
        return np.sqrt((along / a) ** 2 + (across / b) ** 2 + (dz / c) ** 2)


def pirads(conspicuity: float, size_mm: float) -> int:
    """Return the PI-RADS category, 1 to 5.

    PI-RADS v2.1 scores each zone on its dominant sequence and parts 4 from 5 at 15 mm. The phantom
    has one T2-like sequence, so one conspicuity stands for the dominant sequence in both zones.
    """
    if conspicuity < 0.15:
        return 1
    if conspicuity < 0.36:
        return 2
    if conspicuity < 0.6:
        return 3
    return 5 if size_mm >= 15.0 else 4


def draw_lesion(
    rng: np.random.Generator,
    gland: Gland,
    *,
    size_mm: int,
    conspicuity: float,
    smallest_mm: int,
    peripheral_share: float = 0.7,
    others: Sequence[Lesion] = (),
) -> Lesion | None:
    """Draw a lesion that fits: where it would not, it shrinks to ``smallest_mm``, then moves.

    Sizes are whole millimetres, as they are reported, so that a report never rounds a lesion over
    a category's limit. A gland that has no room for ``smallest_mm`` gets a smaller one, from 5 mm.

    Returns:
        The lesion; None when ``others`` leave no room. Without ``others`` there always is.
    """
    for attempt in range(_PLACES):
        floor = smallest_mm if attempt < _PLACES // 2 else _LEAST_MM
        place = _draw_place(rng, peripheral_share)
        centres = _centres(rng, gland, *place)
        size = size_mm
        while size > 0:
            lesion = _fit(gland, centres, place, size, conspicuity, others)
            if lesion is not None:
                return lesion
            size = max(min(size - 1, round(size * 0.88)), floor) if size > floor else 0
    return None


def _draw_place(rng: np.random.Generator, peripheral_share: float) -> tuple[Side, Zone, Level]:
    """Draw side, zone and level: most lesions lie in the middle third."""
    zone: Zone = "peripheral" if rng.random() < peripheral_share else "transition"
    side: Side = "right" if rng.random() < 0.5 else "left"
    if zone == "transition" and rng.random() < 0.25:
        side = "midline"
    draw = rng.random()
    return side, zone, "mid" if draw < 0.5 else "base" if draw < 0.75 else "apex"


def _centres(
    rng: np.random.Generator, gland: Gland, side: Side, zone: Zone, level: Level
) -> Floats:
    """Return candidate centres ``(N, 3)`` in mm in the zone, on the side and at the level."""
    unit = rng.normal(size=(_CANDIDATES * (8 if side == "midline" else 1), 3))
    unit *= (rng.random(len(unit)) ** (1 / 3) / np.linalg.norm(unit, axis=1))[:, None]
    if side == "midline":
        unit[:, 0] *= 0.05
        unit[:, 1] = np.abs(unit[:, 1])  # in front of the urethra
    points = gland.millimetres(unit)
    x, z = points[:, 0], points[:, 2] / gland.c
    low, high = {"base": (0.38, 0.75), "mid": (-0.28, 0.28), "apex": (-0.75, -0.38)}[level]
    lateral = {"right": x > 0.22 * gland.a, "left": x < -0.22 * gland.a}
    keep = lateral.get(side, np.abs(x) < _MIDLINE_MM) & (z > low) & (z < high)
    keep &= gland.zone(points) == (PERIPHERAL if zone == "peripheral" else TRANSITION)
    return points[keep]


def _fit(
    gland: Gland,
    centres: Floats,
    place: tuple[Side, Zone, Level],
    size: int,
    conspicuity: float,
    others: Sequence[Lesion],
) -> Lesion | None:
    """Return a lesion of ``size`` at the first candidate where enough of it lies in its zone."""
    side, zone, level = place
    own = PERIPHERAL if zone == "peripheral" else TRANSITION
    # Peripheral lesions are flat against the capsule; those of the transition zone are lenses.
    thickness = 0.28 if zone == "peripheral" else 0.33
    radii = (size / 2, max(thickness * size, 2.0), max(0.4 * size, 2.4))
    for centre in centres[:_TRIED]:
        x, y, z = (float(value) for value in centre)
        yaw, bend = _along_capsule(gland, x, y) if zone == "peripheral" else _across(gland, x)
        lesion = Lesion(side, zone, level, (x, y, z), radii, yaw, bend, conspicuity)
        if any(_touch(lesion, other) for other in others):
            continue
        zones = gland.zone(_sample(lesion))
        if np.mean(zones == own) >= _IN_ZONE and np.mean(zones != OUTSIDE) >= _IN_GLAND:
            return lesion
    return None


def _along_capsule(gland: Gland, x: float, y: float) -> tuple[float, tuple[float, float]]:
    """Return the turn and bend of a peripheral lesion at ``x, y``."""
    axial, upright = gland.curvature(x, y)
    return gland.tangent(x, y), (axial / 2.0, upright / 2.0)


def _across(gland: Gland, x: float) -> tuple[float, tuple[float, float]]:
    """Return the turn and bend of a lesion of the transition zone: nearly across, straight."""
    return math.atan2(x, 3.0 * gland.a), (0.0, 0.0)


def _sample(lesion: Lesion) -> Floats:
    """Return points spread through the lesion, ``(N, 3)`` mm: a fixed lattice of its ball."""
    steps = np.linspace(-0.9, 0.9, 7)
    ball = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    ball = ball[np.linalg.norm(ball, axis=1) <= 1.0] * np.asarray(lesion.radii)
    ball[:, 1] -= lesion.bend[0] * ball[:, 0] ** 2 + lesion.bend[1] * ball[:, 2] ** 2
    cos, sin = math.cos(lesion.yaw), math.sin(lesion.yaw)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    points: Floats = ball @ turn.T + np.asarray(lesion.centre)
    return points


def _touch(first: Lesion, second: Lesion) -> bool:
    """Return whether two lesions might merge."""
    apart = math.dist(first.centre, second.centre)
    return apart < first.radii[0] + second.radii[0] + 3.0


def draw_lesion_at(rng: np.random.Generator, gland: Gland, like: Lesion) -> Lesion | None:
    """Draw a lesion as another is told: its side, zone, level, size and conspicuity, elsewhere.

    Returns:
        The lesion; None where no centre that was tried has room for its size.
    """
    place = like.side, like.zone, like.level
    centres = _centres(rng, gland, *place)
    return _fit(gland, centres, place, round(like.size_mm), like.conspicuity, ())


def resized(gland: Gland, lesion: Lesion, size_mm: int) -> Lesion | None:
    """Return a lesion of another size about the same centre; None where it would not fit."""
    place = lesion.side, lesion.zone, lesion.level
    centres = np.asarray([lesion.centre])
    return _fit(gland, centres, place, size_mm, lesion.conspicuity, ())
