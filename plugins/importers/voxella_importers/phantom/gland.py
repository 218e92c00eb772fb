"""The gland as a formula: its surface, its zones and its levels, in millimetres.

The gland's frame is the patient's: origin at the gland's centre, +x to the patient's right, +y to
the front, +z to the head. Everything here is exact and needs no voxels, so that facts, reports and
tests agree with the volume without rendering one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVELS", "OUTSIDE", "PERIPHERAL", "TRANSITION", "Gland", "Level", "Zone"]

Zone = Literal["peripheral", "transition"]
Level = Literal["base", "mid", "apex"]
Floats = NDArray[np.floating]

OUTSIDE, PERIPHERAL, TRANSITION = 0, 1, 2
LEVELS: tuple[Level, ...] = ("base", "mid", "apex")


@dataclass(frozen=True)
class Gland:
    """A tapered, bent ellipsoid with a bilobed transition zone inside.

    With ``u, v, w`` the coordinates of the unit ball and ``t = 1 + taper w``::

        x = a t u      y = b t v - bend ((x / a)^2 - 1/5)      z = c w

    The bend is a shear and keeps volumes, so the volume is ``4/3 pi a b c (1 + taper^2 / 5)``.

    Attributes:
        a: Semi-axis along R, mm.
        b: Semi-axis along A, mm.
        c: Semi-axis along S, mm.
        taper: How much wider the base is than the middle, as a share.
        bend: How far back the flanks reach, mm; flattens the side towards the rectum.
        transition: Size of the transition zone, as a share of the gland's semi-axes.
        asymmetry: How much larger the right lobe is than the left, as a share.
    """

    a: float
    b: float
    c: float
    taper: float
    bend: float
    transition: float
    asymmetry: float

    @classmethod
    def of_volume(
        cls,
        volume_ml: float,
        *,
        depth: float,
        height: float,
        taper: float,
        bend: float,
        transition: float,
        asymmetry: float,
    ) -> Gland:
        """Build a gland of ``volume_ml``; depth, height and bend are shares of its width."""
        shape = 4.0 / 3.0 * math.pi * depth * height * (1.0 + taper**2 / 5.0)
        a = (volume_ml * 1000.0 / shape) ** (1.0 / 3.0)
        return cls(a, a * depth, a * height, taper, a * bend, transition, asymmetry)

    @property
    def volume_ml(self) -> float:
        """Return the gland's volume."""
        ball = 4.0 / 3.0 * math.pi * self.a * self.b * self.c
        return ball * (1.0 + self.taper**2 / 5.0) / 1000.0

    def unit(self, x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
        """Map millimetres to the unit ball's ``u, v, w``."""
        w = z / self.c
        t = np.maximum(1.0 + self.taper * w, 0.2)
        v = (y + self.bend * ((x / self.a) ** 2 - 0.2)) / (self.b * t)
        return x / (self.a * t), v, w

    def millimetres(self, unit: Floats) -> Floats:
        """Map ``(N, 3)`` points of the unit ball to millimetres."""
        u, v, w = unit.T
        t = 1.0 + self.taper * w
        x = self.a * t * u
        y = self.b * t * v - self.bend * ((x / self.a) ** 2 - 0.2)
        return np.stack([x, y, self.c * w], axis=1)

    def depth(self, u: Floats, v: Floats, w: Floats) -> Floats:
        """Return the distance to the surface in mm, negative inside, along the ray from within."""
        radius = np.sqrt(u * u + v * v + w * w)
        length = np.sqrt((self.a * u) ** 2 + (self.b * v) ** 2 + (self.c * w) ** 2)
        distance: Floats = length * (1.0 - 1.0 / np.maximum(radius, 1e-3))
        return distance

    def transition_depth(self, u: Floats, v: Floats, w: Floats) -> Floats:
        """Return the distance to the transition zone's surface in mm, negative inside."""
        s = self.transition
        lobes = []
        for sign in (1.0, -1.0):
            grown = 1.0 + sign * self.asymmetry
            du = (u - sign * 0.36 * s) / (0.64 * s * grown)
            dv = (v - 0.92 * (1.0 - s)) / (0.96 * s)
            dw = (w - 0.55 * (1.0 - s)) / (0.92 * s)
            lobes.append(np.sqrt(du * du + dv * dv + dw * dw))
        # A smooth minimum rounds the cleft between the lobes off, as the urethra's bed does.
        near, far = np.minimum(*lobes), np.maximum(*lobes)
        radius = near - 0.12 * np.maximum(1.0 - (far - near) / 0.35, 0.0) ** 2
        distance: Floats = (radius - 1.0) * 0.75 * s * min(self.b, self.c)
        return distance

    def zone(self, points: Floats) -> NDArray[np.int_]:
        """Return OUTSIDE, PERIPHERAL or TRANSITION of ``(N, 3)`` points in mm."""
        u, v, w = self.unit(*points.T)
        inside = self.depth(u, v, w) < 0.0
        central = self.transition_depth(u, v, w) < 0.0
        return np.where(inside, np.where(central, TRANSITION, PERIPHERAL), OUTSIDE)

    def level(self, z: float) -> Level:
        """Return the third of the gland that height ``z`` (mm) lies in."""
        if z > self.c / 3.0:
            return "base"
        return "apex" if z < -self.c / 3.0 else "mid"

    def tangent(self, x: float, y: float) -> float:
        """Return the angle (radians, about +z) of the surface's tangent near ``x, y`` (mm).

        The outward normal is 90 degrees further on.
        """
        slope = (y + self.bend * ((x / self.a) ** 2 - 0.2)) / self.b**2
        normal_x = x / self.a**2 * (1.0 + 2.0 * self.bend * slope)
        return math.atan2(slope, normal_x) - math.pi / 2.0

    def curvature(self, x: float, y: float) -> tuple[float, float]:
        """Return the surface's curvature near ``x, y`` (mm), in the axial plane and along S, 1/mm.

        That of the ellipse ``a, b``, less what the bend flattens on the side towards the rectum.
        """
        angle = math.atan2(y / self.b, x / self.a)
        cos, sin = math.cos(angle), math.sin(angle)
        axial = self.a * self.b / ((self.a * sin) ** 2 + (self.b * cos) ** 2) ** 1.5
        flattened = axial + 2.0 * self.bend / self.a**2 * sin
        return flattened, math.hypot(self.a * cos, self.b * sin) / self.c**2
