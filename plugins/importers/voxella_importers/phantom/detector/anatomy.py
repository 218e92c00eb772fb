"""What a phantom without texture or lesion looks like, at any points about its gland.

The same shapes as ``prostate`` and ``organs`` paint, without noise, and with nodules replaced by
their mean. Signal is linear in the two zones' levels, which are kept apart so that a fit may solve
for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom.canvas import Canvas
from voxella_importers.phantom.facts import CaseFacts, Patient, Scan
from voxella_importers.phantom.gland import Gland
from voxella_importers.phantom.organs import (
    paint_bladder,
    paint_levator,
    paint_rectum,
    paint_seminal_vesicles,
    paint_veins,
    rectum_course,
)
from voxella_importers.phantom.tissue import paint

__all__ = ["Anatomy", "anatomy", "coil_bias"]

Floats = NDArray[np.floating]

_EDGE_MM = 2.0  # softer than what is drawn: a fit needs slopes
_SCAN = Scan((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 3.0, 1.0, 0.0)


@dataclass(frozen=True)
class Anatomy:
    """Expected signal at ``N`` points: ``fixed + P peripheral + T transition``.

    Attributes:
        fixed: ``(N,)`` relative T2 signal of all but the zones' own tissue.
        peripheral: ``(N,)`` share of tissue of the peripheral zone, whose level is P.
        transition: ``(N,)`` share of tissue of the transition zone, whose level is T.
        surface: ``(N,)`` distance to the gland's surface, mm, negative inside.
        central: ``(N,)`` distance to the transition zone's surface, mm, negative inside.
    """

    fixed: Floats
    peripheral: Floats
    transition: Floats
    surface: Floats
    central: Floats


def anatomy(gland: Gland, xyz: tuple[Floats, Floats, Floats], bladder: float) -> Anatomy:
    """Return the expected signal at points of the gland's frame.

    Args:
        gland: Its shape.
        xyz: Of each point, ``(N,)`` mm.
        bladder: How full, 0 to 1.
    """
    u, v, w = gland.unit(*xyz)
    surface, central = gland.depth(u, v, w), gland.transition_depth(u, v, w)
    tissue = {"fixed": np.zeros_like(u), "peripheral": np.ones_like(u), "transition": u * 0.0}
    _blend(tissue, _cover(central - 0.9, _EDGE_MM) * 0.75, fixed=0.13)
    _blend(tissue, _cover(central, _EDGE_MM), transition=1.0)
    for cover, level in (_stroma(gland, u, v), _ducts(gland, xyz), *_urethra(gland, xyz)):
        _blend(tissue, cover, fixed=level)
    outside = _outside(gland, xyz, surface, v, bladder)
    paint(outside, surface - 1.1, 0.15, 1.0, 0.85)
    inside = _cover(surface, _EDGE_MM)
    return Anatomy(
        outside + inside * (tissue["fixed"] - outside),
        inside * tissue["peripheral"],
        inside * tissue["transition"],
        surface,
        central,
    )


def coil_bias(y: Floats) -> Floats:
    """Return the coils' mean sensitivity at ``y`` mm in front of the gland's middle."""
    bias: Floats = np.exp(0.22 * ((y / 80.0) ** 2 - 0.2))
    return bias


def _cover(distance: Floats, edge_mm: float) -> Floats:
    cover: Floats = np.clip(0.5 - distance / edge_mm, 0.0, 1.0)
    return cover


def _blend(tissue: dict[str, Floats], cover: Floats, **levels: float) -> None:
    """Paint something of constant level over all three parts of the signal."""
    for name in tissue:
        tissue[name] = tissue[name] + cover * (levels.get(name, 0.0) - tissue[name])


def _stroma(gland: Gland, u: Floats, v: Floats) -> tuple[Floats, float]:
    apron = (np.sqrt((u / 0.42) ** 2 + ((v - 1.05) / 0.30) ** 2) - 1.0) * 0.3 * gland.b
    return _cover(apron, 2.5), 0.11


def _ducts(gland: Gland, xyz: tuple[Floats, Floats, Floats]) -> tuple[Floats, float]:
    x, y, z = xyz
    ducts = np.sqrt((x / 9.0) ** 2 + ((y + 0.45 * gland.b) / 4.5) ** 2)
    return 0.75 * _cover(np.maximum((ducts - 1.0) * 5.0, 0.35 * gland.c - z), 3.0), 0.20


def _urethra(
    gland: Gland, xyz: tuple[Floats, Floats, Floats]
) -> tuple[tuple[Floats, float], tuple[Floats, float]]:
    x, y, z = xyz
    tube = np.sqrt(x * x + (y - 0.12 * gland.b - 0.12 * z) ** 2)
    plain = np.clip(0.55 - z / gland.c, 0.15, 1.0)
    ring = 0.75 * np.clip(1.6 - np.abs(tube - 4.0), 0.0, 1.0) * plain
    return (ring, 0.12), (0.8 * np.clip(2.6 - tube, 0.0, 1.0) * plain, 0.62)


def _outside(
    gland: Gland,
    xyz: tuple[Floats, Floats, Floats],
    surface: Floats,
    front: Floats,
    bladder: float,
) -> Floats:
    """Return the signal about the gland, at points ``(N,)``, as ``organs`` paints it."""
    x, y, z = (np.ascontiguousarray(axis)[:, None, None] for axis in xyz)
    quiet = np.zeros_like(x)
    canvas = Canvas(
        image=np.full_like(x, 0.5),
        labels=np.zeros(x.shape, np.uint8),
        x=x,
        y=y,
        z=z,
        fine=quiet,
        medium=quiet,
        coarse=quiet,
        strands=quiet,
        spots=quiet,
        # Midway between a coil's wall and its middle.
        coils=np.full_like(x, 0.3),
        gland=surface[:, None, None],
        front=front[:, None, None],
    )
    facts = _facts(gland, bladder)
    middle, radius = rectum_course(canvas, facts, 0.0)
    paint_levator(canvas, facts, middle - radius)
    # Without its sway, which is chance.
    paint_rectum(canvas, facts, math.pi, middle, radius)
    paint_bladder(canvas, facts)
    paint_veins(canvas)
    paint_seminal_vesicles(canvas, facts)
    return canvas.image[:, 0, 0]


def _facts(gland: Gland, bladder: float) -> CaseFacts:
    """Return facts with the shapes that ``organs`` asks for; the rest says nothing."""
    patient = Patient("", 65, gland, 1.0, 18.0, 0.64, 0.29)
    return CaseFacts("", 0, patient, (), _SCAN, 0.0, bladder, "stool", True, "")
