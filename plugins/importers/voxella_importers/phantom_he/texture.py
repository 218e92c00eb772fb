"""Smooth random fields, fibres and cells on a grid of pixels; lengths in micrometres.

No matrix products: a library for these may add in another order on another machine, and the same
(seed, tile) has to give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Cells", "Grid", "Plane", "cells", "fibres", "noise", "scattered"]

Plane = NDArray[np.float32]
_FIBRE_TEXTURE = 96  # side of the periodic texture that fibres are read from
_MARGIN_UM = 12.0  # cells are laid out this far beyond the edge: a nucleus may look in


@dataclass(frozen=True)
class Grid:
    """A square tile.

    Attributes:
        pixels: Along each side.
        mpp: Micrometres per pixel.
    """

    pixels: int
    mpp: float

    @property
    def side_um(self) -> float:
        """Side of the tile in micrometres."""
        return self.pixels * self.mpp

    @property
    def area_mm2(self) -> float:
        """Area of the tile."""
        return (self.side_um / 1000.0) ** 2

    def axes(self) -> tuple[Plane, Plane]:
        """Return the pixel centres' y ``(n, 1)`` and x ``(1, n)`` in micrometres."""
        line = (np.arange(self.pixels, dtype=np.float32) + np.float32(0.5)) * np.float32(self.mpp)
        return line[:, None], line[None, :]


@dataclass(frozen=True)
class Cells:
    """Cells of a jittered, turned grid (Worley noise).

    Attributes:
        y: Centres in micrometres, some beyond the edge.
        x: Likewise.
        border: ``(n, n)`` micrometres from each pixel to the border with the next cell, about.
    """

    y: Plane
    x: Plane
    border: Plane


@dataclass(frozen=True)
class _Lattice:
    """Centres in units of a turned grid's spacing, from a corner that lies outside the tile."""

    spacing_um: float
    half_um: float
    cos: np.float32
    sin: np.float32
    reach: int
    v: Plane
    u: Plane

    def centres(self) -> tuple[Plane, Plane]:
        """Return y and x of the centres in the tile or near it, in micrometres."""
        v = (self.v.ravel() - self.reach) * np.float32(self.spacing_um)
        u = (self.u.ravel() - self.reach) * np.float32(self.spacing_um)
        half = np.float32(self.half_um)
        y, x = self.cos * v + self.sin * u + half, self.cos * u - self.sin * v + half
        low, high = -_MARGIN_UM, 2 * self.half_um + _MARGIN_UM
        near = (y > low) & (y < high) & (x > low) & (x < high)
        return y[near], x[near]


def noise(rng: np.random.Generator, grid: Grid, scale_um: float) -> Plane:
    """Return a smooth field ``(n, n)`` of mean 0 and deviation about 1: cubic B-splines.

    Args:
        rng: Draws the knots.
        grid: The tile.
        scale_um: Distance between knots.
    """
    step = grid.mpp / scale_um
    knots = int(np.ceil(grid.pixels * step)) + 4
    values = rng.standard_normal((knots, knots), dtype=np.float32)
    places = np.arange(grid.pixels, dtype=np.float32) * np.float32(step)
    first = np.floor(places).astype(np.intp)
    weights = _spline(places - first)
    rows = sum(w[:, None] * values[first + k] for k, w in enumerate(weights))
    assert not isinstance(rows, int)
    field = sum(w * rows[:, first + k] for k, w in enumerate(weights))
    assert not isinstance(field, int)
    # A spline of independent knots has a deviation of about 0.48 in two dimensions.
    return np.asarray(field / np.float32(0.48), dtype=np.float32)


def _spline(t: Plane) -> tuple[Plane, Plane, Plane, Plane]:
    """Return the four cubic B-spline weights at fraction ``t`` of a knot interval."""
    sixth = np.float32(1 / 6)
    u, t2, t3 = np.float32(1) - t, t * t, t * t * t
    three, six = np.float32(3), np.float32(6)
    return (
        u * u * u * sixth,
        (three * t3 - six * t2 + np.float32(4)) * sixth,
        (-three * t3 + three * t2 + three * t + np.float32(1)) * sixth,
        t3 * sixth,
    )


def fibres(
    rng: np.random.Generator, grid: Grid, *, across_um: float, along_um: float, wave_um: float
) -> Plane:
    """Return wavy bands ``(n, n)`` of mean 0 and deviation about 1.

    Args:
        rng: Draws direction, waves and bands.
        grid: The tile.
        across_um: Width of a band.
        along_um: Length over which a band keeps its shade.
        wave_um: How far bands sway.
    """
    texture = rng.standard_normal((_FIBRE_TEXTURE, _FIBRE_TEXTURE), dtype=np.float32)
    texture = ndimage.uniform_filter(texture, 2, mode="wrap")
    texture /= texture.std()
    angle = rng.uniform(0, np.pi)
    y, x = grid.axes()
    sway = noise(rng, grid, 45.0) * np.float32(wave_um)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = (cos * x + sin * y + sway) / np.float32(along_um)
    across = (cos * y - sin * x + sway) / np.float32(across_um)
    shift = rng.uniform(0, _FIBRE_TEXTURE, 2).astype(np.float32)
    return np.asarray(
        ndimage.map_coordinates(
            texture, [across + shift[0], along + shift[1]], order=1, mode="grid-wrap"
        ),
        dtype=np.float32,
    )


def scattered(
    rng: np.random.Generator, grid: Grid, spacing_um: float, *, jitter: float
) -> tuple[Plane, Plane]:
    """Return y and x of points about ``spacing_um`` apart, some beyond the edge.

    Args:
        rng: Draws direction and jitter.
        grid: The tile.
        spacing_um: Distance of neighbours.
        jitter: Largest shift of a point along each axis, as a share of the spacing.
    """
    return _lattice(rng, grid, spacing_um, jitter).centres()


def cells(
    rng: np.random.Generator,
    grid: Grid,
    spacing_um: float,
    *,
    jitter: float = 0.3,
    bend: float = 0.0,
) -> Cells:
    """Return cells about ``spacing_um`` apart.

    Args:
        rng: Draws direction, jitter and bends.
        grid: The tile.
        spacing_um: Distance of neighbours.
        jitter: See :func:`scattered`.
        bend: How far borders stray from straight lines, as a share of the spacing.
    """
    lattice = _lattice(rng, grid, spacing_um, jitter)
    y, x = grid.axes()
    half, spacing = np.float32(lattice.half_um), np.float32(spacing_um)
    reach = np.float32(lattice.reach)
    v = (lattice.cos * (y - half) - lattice.sin * (x - half)) / spacing + reach
    u = (lattice.sin * (y - half) + lattice.cos * (x - half)) / spacing + reach
    if bend > 0:
        v = v + np.float32(bend) * np.clip(noise(rng, grid, spacing_um / 3), -2, 2)
    nearest, second = _two_nearest(
        np.asarray(v, np.float32), np.asarray(u, np.float32), lattice.v, lattice.u
    )
    border = (np.sqrt(second) - np.sqrt(nearest)) * (spacing / 2)
    return Cells(*lattice.centres(), border)


def _lattice(rng: np.random.Generator, grid: Grid, spacing_um: float, jitter: float) -> _Lattice:
    angle = rng.uniform(0, np.pi / 2)
    reach = int(np.ceil((grid.side_um * 0.71 + _MARGIN_UM) / spacing_um)) + 2
    shifts = rng.uniform(-jitter, jitter, (2, 2 * reach + 1, 2 * reach + 1)).astype(np.float32)
    index = np.arange(2 * reach + 1, dtype=np.float32) + np.float32(0.5)
    return _Lattice(
        spacing_um,
        grid.side_um / 2,
        np.float32(np.cos(angle)),
        np.float32(np.sin(angle)),
        reach,
        index[:, None] + shifts[0],
        index[None, :] + shifts[1],
    )


def _two_nearest(v: Plane, u: Plane, centre_v: Plane, centre_u: Plane) -> tuple[Plane, Plane]:
    """Return the squared distances of each pixel to the two nearest centres."""
    side = centre_v.shape[1]
    home = np.floor(v).astype(np.int32) * side + np.floor(u).astype(np.int32)
    flat_v, flat_u = centre_v.ravel(), centre_u.ravel()
    nearest = np.full(v.shape, np.inf, np.float32)
    second = nearest.copy()
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            there = home + (down * side + right)
            apart = (v - flat_v[there]) ** 2 + (u - flat_u[there]) ** 2
            second = np.minimum(second, np.maximum(nearest, apart))
            nearest = np.minimum(nearest, apart)
    return nearest, second
