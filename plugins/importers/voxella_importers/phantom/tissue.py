"""What makes flat shapes look scanned: texture, soft edges, coil sensitivity and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

__all__ = ["Texture", "acquire", "ellipsoid", "paint", "ridges"]

Floats = NDArray[np.floating]


class Texture:
    """Smooth noise of any grain for one grid, each grain of zero mean and about unit variance.

    White noise on a coarse lattice, interpolated with cubic B-splines along one axis at a time:
    elementwise arithmetic only, so the bits do not depend on a linear algebra library's threads.
    """

    def __init__(
        self, rng: np.random.Generator, size: tuple[int, int, int], spacing_mm: tuple[float, ...]
    ) -> None:
        self._rng = rng
        self._size = size
        self._spacing = spacing_mm

    def __call__(self, grain_mm: float | tuple[float, float, float]) -> Floats:
        """Return noise ``(R, A, S)``, float32, whose lattice step is ``grain_mm`` per axis."""
        grains = (grain_mm,) * 3 if isinstance(grain_mm, float) else grain_mm
        # A lattice finer than the voxels would be white noise at a greater cost.
        steps = [max(g / s, 1.0) for g, s in zip(grains, self._spacing, strict=True)]
        lattice = [int(n / step) + 5 for n, step in zip(self._size, steps, strict=True)]
        field: Floats = self._rng.standard_normal(lattice, dtype=np.float32)
        for axis in (2, 1, 0):
            field = _interpolate(field, axis, self._size[axis], steps[axis])
        return field


def _interpolate(field: Floats, axis: int, count: int, step: float) -> Floats:
    """Interpolate along one axis at ``count`` points ``1 / step`` lattice steps apart."""
    position = np.arange(count) / step
    first = position.astype(np.intp)
    t = (position - first).astype(np.float32)
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    )
    # Splines average: dividing by the weights' norm restores the variance of the lattice.
    weights /= np.sqrt((weights**2).sum(axis=0))
    shape = [1, 1, 1]
    shape[axis] = count
    result: Floats = np.take(field, first, axis=axis) * weights[0].reshape(shape)
    for tap in range(1, 4):
        part = np.take(field, first + tap, axis=axis)
        part *= weights[tap].reshape(shape)
        result += part
    return result


def ridges(noise: Floats, width: float) -> Floats:
    """Return thin sheets, 1 on the noise's zero crossings and 0 beyond ``width`` of them."""
    return np.maximum(1.0 - np.abs(noise) / np.float32(width), 0.0)


def ellipsoid(
    x: Floats,
    y: Floats,
    z: Floats,
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    yaw: float = 0.0,
) -> Floats:
    """Return the approximate distance in mm to an ellipsoid's surface, negative inside.

    First-order: the implicit function over its gradient's length; exact on the surface.

    Args:
        x: Along R, mm.
        y: Along A, mm.
        z: Along S, mm.
        centre: Of the ellipsoid, mm.
        radii: Semi-axes, mm.
        yaw: Turn about +z, radians.
    """
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    if yaw:
        cos, sin = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
        dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
    squares = [d * d for d in (dx, dy, dz)]
    implicit = sum(d * np.float32(r**-2) for d, r in zip(squares, radii, strict=True))
    slope = sum(d * np.float32(r**-4) for d, r in zip(squares, radii, strict=True))
    distance: Floats = (implicit - np.sqrt(implicit)) / np.sqrt(np.maximum(slope, 1e-8))
    return distance


def paint(
    image: Floats, distance: Floats, level: Floats | float, edge_mm: float, alpha: float = 1.0
) -> None:
    """Blend ``level`` into ``image`` where ``distance`` is negative; the edge is ``edge_mm``."""
    cover = np.clip(0.5 - distance / edge_mm, 0.0, alpha)
    image += cover * (level - image)


def acquire(
    image: Floats, bias: Floats, rng: np.random.Generator, *, noise: float, gain: float
) -> NDArray[np.int16]:
    """Return what a scanner would: blurred by its point spread, shaded, noisy, int16.

    The noise is Rician: the magnitude of a signal with independent Gaussian noise of standard
    deviation ``noise`` in both channels (Gudbjartsson and Patz, 1995).
    """
    signal = gaussian_filter(image, sigma=(0.45, 0.45, 0.3), truncate=3.0) * bias
    real = signal + noise * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = noise * rng.standard_normal(image.shape, dtype=np.float32)
    magnitude = np.sqrt(real * real + imaginary * imaginary)
    scanned: NDArray[np.int16] = np.clip(np.rint(magnitude * gain), 0, 32767).astype(np.int16)
    return scanned
