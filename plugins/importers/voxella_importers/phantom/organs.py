"""What lies about the gland: rectum in its sling, bladder, veins, seminal vesicles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom.canvas import BLADDER, EDGE_MM, RECTUM, Canvas
from voxella_importers.phantom.facts import CaseFacts
from voxella_importers.phantom.tissue import ellipsoid, paint, ridges

__all__ = [
    "paint_bladder",
    "paint_levator",
    "paint_rectum",
    "paint_seminal_vesicles",
    "paint_veins",
    "rectum_course",
]

Floats = NDArray[np.floating]


def paint_levator(canvas: Canvas, facts: CaseFacts, back: Floats) -> None:
    """The levator ani: a thin dark sling about gland and rectum that closes downwards.

    Args:
        canvas: To paint on.
        facts: Of the case.
        back: Where the rectum's back wall lies, mm along A, broadcast along R and A.
    """
    gland = facts.patient.gland
    rise = canvas.z + gland.c
    wide = np.maximum(gland.a + 2.0 + 0.24 * rise, 9.0)
    deep = np.maximum((4.0 - back) / 2.0 + 3.0, 10.0)
    u, v = canvas.x / wide, (canvas.y - (4.0 + back) / 2.0) / deep
    sling = (np.sqrt(u * u + v * v) - 1.0) * np.minimum(wide, deep)
    # What it holds is more connective tissue than fat.
    within = np.clip(0.32 + 0.05 * canvas.medium + 0.05 * canvas.fine, 0.1, 0.7)
    paint(canvas.image, np.maximum(sling, canvas.z - 12.0), within, 5.0, 0.8)
    sheet = np.abs(sling) - 2.1 - np.clip(0.5 * canvas.coarse, -0.6, 1.2)
    # Open in front, and gone above the middle of the gland.
    sheet = np.maximum(sheet, np.maximum(canvas.y - 6.0, canvas.z - 8.0))
    canvas.muscle(sheet, 0.10, label=False)


def rectum_course(canvas: Canvas, facts: CaseFacts, wider_mm: float) -> tuple[Floats, Floats]:
    """Return where the rectum's middle lies along A and its radius there, mm, per voxel.

    Args:
        canvas: Whose voxels are meant.
        facts: Of the case.
        wider_mm: Departure of the radius from the usual.
    """
    gland, z = facts.patient.gland, canvas.z
    wide = {"gas": 16.0, "stool": 18.0, "empty": 12.0}[facts.rectum] + wider_mm
    opening = 1.0 / (1.0 + np.exp(-(z + gland.c + 2.0) / 6.0))  # narrow below the apex
    radius = 9.5 + (wide - 9.5) * opening
    return -(gland.b + radius + 0.5) - 0.006 * np.maximum(z, 0.0) ** 2, radius


def paint_rectum(
    canvas: Canvas,
    facts: CaseFacts,
    sway_phase: float,
    middle_y: Floats,
    radius: Floats,
) -> None:
    """The rectum behind the gland: a wall about gas, stool or nothing; a ring at the anal canal.

    Args:
        canvas: To paint on.
        facts: Of the case.
        sway_phase: Of its bends to the sides, radians.
        middle_y: As :func:`rectum_course` returns it.
        radius: As :func:`rectum_course` returns it.
    """
    sway = 4.0 * np.sin(canvas.z / 22.0 + sway_phase) * (radius / 20.0)
    # Flattened where it meets the gland, wider than deep.
    dx, dy = (canvas.x - sway) / 1.22, canvas.y - middle_y
    wall = np.sqrt(dx * dx + dy * dy) - radius - 0.5 * canvas.coarse
    paint(canvas.image, wall, 0.14 * (1 + 0.25 * canvas.fine + 0.25 * canvas.medium), EDGE_MM)
    paint(canvas.image, wall + 2.6, 0.32 + 0.06 * canvas.medium, EDGE_MM)  # mucosa
    if facts.rectum == "gas":
        # Gas rises: what is fluid lies behind it, for the patient is on his back.
        fluid = np.clip(-0.35 * radius - dy, 0.0, 1.0)
        content = 0.015 + fluid * (0.26 + 0.08 * canvas.medium)
    else:
        middle, swing = (0.17, 0.10) if facts.rectum == "stool" else (0.22, 0.12)
        content = np.clip(middle + swing * canvas.medium + 0.05 * canvas.fine, 0.03, 0.6)
    paint(canvas.image, wall + 4.0, content.astype(np.float32), EDGE_MM)
    canvas.labels[wall < 0.0] = RECTUM


def paint_bladder(canvas: Canvas, facts: CaseFacts) -> None:
    """The bladder on top and in front of the gland: bright urine in a dark wall."""
    gland, full = facts.patient.gland, facts.bladder
    tall, wide, deep = 16.0 + 14.0 * full, 26.0 + 12.0 * full, 20.0 + 10.0 * full
    centre = (0.0, 0.35 * gland.b + 6.0, 0.72 * gland.c + tall)
    urine = ellipsoid(canvas.x, canvas.y, canvas.z, centre, (wide, deep, tall))
    paint(canvas.image, urine - 6.0 + 2.5 * full, 0.13 + 0.02 * canvas.fine, EDGE_MM)
    paint(canvas.image, urine, 1.0 + 0.012 * canvas.medium, EDGE_MM)
    canvas.labels[urine < 0.0] = BLADDER


def paint_veins(canvas: Canvas) -> None:
    """The venous plexus in front of and beside the gland: bright worms between dark walls."""
    shell = np.maximum(np.abs(canvas.gland - 3.6) - 3.6, -0.45 - canvas.front)
    level = np.clip(0.36 + 0.22 * canvas.medium + 0.16 * canvas.fine, 0.06, 0.95)
    paint(canvas.image, shell, level, 2.0, 0.9)


def paint_seminal_vesicles(canvas: Canvas, facts: CaseFacts) -> None:
    """The seminal vesicles above and behind the base: bright coils."""
    gland, x = facts.patient.gland, np.abs(canvas.x)
    centre = (15.0, -0.55 * gland.b - 3.0, gland.c + 3.0)
    pouch = ellipsoid(x, canvas.y, canvas.z, centre, (16.0, 5.5, 8.0), -0.25)
    coils = np.clip(0.72 - 0.55 * ridges(canvas.coils, 0.45), 0.1, 1.0)
    paint(canvas.image, pouch, coils, 1.5)
