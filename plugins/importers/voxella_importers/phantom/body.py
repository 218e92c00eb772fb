"""What carries the pelvis: skin and fat, the abdominal wall, bone, muscle, thigh vessels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom.canvas import EDGE_MM, Canvas
from voxella_importers.phantom.facts import CaseFacts
from voxella_importers.phantom.tissue import ellipsoid, paint, ridges

__all__ = ["paint_bones", "paint_muscles", "paint_skin", "paint_vessels", "paint_wall"]

Floats = NDArray[np.floating]


def paint_skin(canvas: Canvas, facts: CaseFacts) -> None:
    """Air, skin and fat with its septa and small vessels."""
    skin = _skin(canvas, facts)
    strands = ridges(canvas.strands, 0.2) * np.clip(canvas.coarse, 0.0, 1.5)
    vessels = np.clip(canvas.spots - 1.9, 0.0, 1.0)
    fat = 0.61 + 0.022 * canvas.fine + 0.02 * canvas.coarse - 0.20 * strands - 0.55 * vessels
    paint(canvas.image, skin, 0.22, EDGE_MM)
    paint(canvas.image, skin + 2.2, fat, EDGE_MM)


def _skin(canvas: Canvas, facts: CaseFacts) -> Floats:
    """Return the distance to the skin: a wide ellipse, so that the corners in front show air."""
    front = 56.0 + facts.patient.fat_mm
    middle = front - 112.0
    u, v = canvas.x / 165.0, (canvas.y - middle) / 112.0
    distance: Floats = (np.sqrt(u * u + v * v) - 1.0) * 112.0
    return distance


def paint_wall(canvas: Canvas, facts: CaseFacts) -> None:
    """The rectus muscles beneath the fat, above the symphysis."""
    beneath = _skin(canvas, facts) + facts.patient.fat_mm + 4.5
    across = (np.abs(canvas.x) - 17.5) / 17.0
    band = (np.sqrt(across * across + (beneath / 4.6) ** 2) - 1.0) * 4.6
    canvas.muscle(np.maximum(band, -6.0 - canvas.z))


def paint_bones(canvas: Canvas) -> None:
    """Hip sockets and femoral heads, ischia, pubic bones with the symphysis, coccyx."""
    x, y, z = np.abs(canvas.x), canvas.y, canvas.z
    socket = ellipsoid(x, y, z, (79.0, 0.0, 14.0), (20.0, 34.0, 32.0), 0.12)
    column = _rod(x, y, z, (76.0, -16.0, 16.0), (65.0, -38.0, -30.0), 13.0)
    canvas.bone(np.minimum(socket, column), 0.37)
    head = ellipsoid(x, y, z, (90.0, 6.0, 14.0), (24.0, 24.0, 24.0))
    paint(canvas.image, head - 2.6, 0.34, EDGE_MM)  # cartilage and joint fluid
    canvas.bone(head, 0.52)
    ramus = _rod(x, y, z, (14.0, 39.0, -8.0), (70.0, 22.0, 8.0), 8.5)
    canvas.bone(ramus, 0.34)
    pubis = ellipsoid(x, y, z, (15.0, 36.0, -18.0), (17.0, 11.5, 25.0), -0.45)
    canvas.bone(np.maximum(pubis, 2.0 - x), 0.32)
    canvas.bone(ellipsoid(x, y, z, (0.0, -84.0, 22.0), (15.0, 8.0, 30.0)), 0.38)


def _rod(
    x: Floats,
    y: Floats,
    z: Floats,
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    radius: float,
) -> Floats:
    """Return the distance to a rod with round ends, exact."""
    ax, ay, az = (e - s for e, s in zip(end, start, strict=True))
    dx, dy, dz = x - start[0], y - start[1], z - start[2]
    along = np.clip((dx * ax + dy * ay + dz * az) / (ax * ax + ay * ay + az * az), 0.0, 1.0)
    dx, dy, dz = dx - along * ax, dy - along * ay, dz - along * az
    distance: Floats = np.sqrt(dx * dx + dy * dy + dz * dz) - radius
    return distance


def paint_muscles(canvas: Canvas) -> None:
    """Obturators inside and out, thigh flexors, gluteus maximus with its fatty strands."""
    x, y, z = np.abs(canvas.x), canvas.y, canvas.z
    # Bowed about the pelvic cavity, thinning towards its ends.
    bow = x - 0.0035 * (y + 10.0) ** 2
    canvas.muscle(ellipsoid(bow, y, z, (46.0, -10.0, 0.0), (11.0, 42.0, 42.0), 0.24))
    canvas.muscle(ellipsoid(x, y, z, (46.0, 22.0, -38.0), (32.0, 11.0, 26.0), -0.45))
    canvas.muscle(ellipsoid(x, y, z, (74.0, 40.0, 24.0), (17.0, 13.0, 55.0), -0.3))
    gluteus = ellipsoid(x, y, z, (66.0, -86.0, 0.0), (54.0, 24.0, 80.0), 0.25)
    canvas.muscle(gluteus)
    # Fat between the bundles, which run outwards and forwards.
    strands = np.clip(np.sin(0.75 * y + 0.33 * x + 2.2 * canvas.coarse) - 0.55, 0.0, 1.0)
    strands *= np.clip(0.5 + 0.7 * canvas.medium, 0.0, 1.0)
    canvas.image += np.clip(0.5 - gluteus, 0.0, 1.0) * strands


def paint_vessels(canvas: Canvas, vessels: Sequence[tuple[float, float, float]]) -> None:
    """Femoral artery and vein on each side: flow voids with thin walls.

    Args:
        canvas: To paint on.
        vessels: Of each: place along R and A, and radius, mm.
    """
    for r, a, radius in vessels:
        dx, dy = canvas.x - r, canvas.y - a + 0.12 * canvas.z
        tube = np.sqrt(dx * dx + dy * dy) - radius
        paint(canvas.image, tube - 1.0, 0.25, EDGE_MM)
        paint(canvas.image, tube, 0.04, EDGE_MM)
