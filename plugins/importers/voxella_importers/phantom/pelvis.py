"""The male pelvis around the gland: fat, muscle, bone, bladder, rectum, vessels.

Painted back to front into an image of relative T2 signal (bladder 1). Shapes are ellipsoids, tubes
and sheets in the gland's frame, bent by smooth noise so that no two pelves are alike. Levels are
those of turbo spin echo at a glance: fluid and fat bright, marrow grey, muscle dark, cortex, air
and flowing blood black.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom.body import (
    paint_bones,
    paint_muscles,
    paint_skin,
    paint_vessels,
    paint_wall,
)
from voxella_importers.phantom.canvas import Canvas
from voxella_importers.phantom.facts import CaseFacts
from voxella_importers.phantom.organs import (
    paint_bladder,
    paint_levator,
    paint_rectum,
    paint_seminal_vesicles,
    paint_veins,
    rectum_course,
)
from voxella_importers.phantom.tissue import Texture

__all__ = ["paint_pelvis"]

Floats = NDArray[np.floating]

_SLAB = 12  # planes along R


@dataclass(frozen=True)
class _Draws:
    """What chance decides about the pelvis beside its noise.

    Attributes:
        vessels: Of each thigh vessel: place along R and A, and radius, mm.
        rectum_mm: Departure of the rectum's radius from the usual.
        sway: Phase of the rectum's bends, radians.
    """

    vessels: tuple[tuple[float, float, float], ...]
    rectum_mm: float
    sway: float

    @classmethod
    def of(cls, rng: np.random.Generator) -> _Draws:
        vessels = []
        for sign in (1.0, -1.0):
            for offset in (0.0, 11.0):
                r, a, radius = (float(v) for v in rng.uniform([-2, -2, 3.8], [2, 2, 5.2]))
                vessels.append((sign * (50.0 + offset + r), 47.0 - 0.3 * offset + a, radius))
        rectum, sway = (float(v) for v in rng.uniform([-2.0, 0.0], [2.5, 6.28]))
        return cls(tuple(vessels), rectum, sway)


def paint_pelvis(
    facts: CaseFacts, x: Floats, y: Floats, z: Floats, texture: Texture, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.uint8]]:
    """Paint everything but the gland.

    Args:
        facts: Of the case.
        x: Along R in the gland's frame, mm, float32 ``(R, A, S)``.
        y: Along A, same shape.
        z: Along S, same shape.
        texture: Noise for these voxels.
        rng: For what chance decides.

    Returns:
        Image and label map, ``(R, A, S)``.
    """
    scale, gland = facts.patient.habitus, facts.patient.gland
    u, v, w = gland.unit(x, y, z)
    coarse = texture(11.0)
    canvas = Canvas(
        image=np.zeros(x.shape, np.float32),
        labels=np.zeros(x.shape, np.uint8),
        x=x / scale + 1.8 * texture(34.0) + 0.6 * coarse,
        y=y / scale + 1.8 * texture(34.0) - 0.6 * coarse,
        z=z / scale + 1.8 * texture(40.0),
        gland=gland.depth(u, v, w),
        front=v,
        fine=texture(1.6),
        medium=texture(4.0),
        coarse=coarse,
        strands=texture((7.0, 9.0, 16.0)),
        spots=texture((2.4, 2.4, 9.0)),
        coils=texture((4.0, 4.0, 6.0)),
    )
    draws = _Draws.of(rng)
    # Every voxel is painted by itself: in slabs that fit a cache it goes twice as fast.
    for start in range(0, len(x), _SLAB):
        _paint(canvas.slab(slice(start, start + _SLAB)), facts, draws)
    return canvas.image, canvas.labels


def _paint(canvas: Canvas, facts: CaseFacts, draws: _Draws) -> None:
    """Paint back to front."""
    paint_skin(canvas, facts)
    paint_wall(canvas, facts)
    paint_bones(canvas)
    paint_muscles(canvas)
    paint_vessels(canvas, draws.vessels)
    rectum_y, rectum_radius = rectum_course(canvas, facts, draws.rectum_mm)
    paint_levator(canvas, facts, rectum_y - rectum_radius)
    paint_rectum(canvas, facts, draws.sway, rectum_y, rectum_radius)
    paint_bladder(canvas, facts)
    paint_veins(canvas)
    paint_seminal_vesicles(canvas, facts)
