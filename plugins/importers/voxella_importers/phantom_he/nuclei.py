"""Nuclei: ellipses with uneven outlines, drawn all at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom_he.texture import Grid, Plane

__all__ = ["Drawn", "Nuclei", "draw", "inside", "without"]

_HALO = 1.45  # radii out to which the pale rim about a nucleus reaches
_OUTLINE = 1.12  # radii out to which a nucleus without one reaches


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of one kind; every array ``(k,)``.

    Attributes:
        y: Centres in micrometres.
        x: Likewise.
        radius: Mean radius in micrometres.
        longish: Long half axis over the short one, 1 or more.
        angle: Of the long axis.
        dark: Optical density of haematoxylin inside.
    """

    y: Plane
    x: Plane
    radius: Plane
    longish: Plane
    angle: Plane
    dark: Plane

    def __len__(self) -> int:
        return len(self.y)

    def only(self, kept: NDArray[np.bool_]) -> Nuclei:
        """Return some of them."""
        parts = (self.y, self.x, self.radius, self.longish, self.angle, self.dark)
        return Nuclei(*(part[kept] for part in parts))


@dataclass(frozen=True)
class Drawn:
    """What nuclei of one kind look like; each ``(n, n)``.

    Attributes:
        cover: Share of a pixel that is nucleus, 0 to 1.
        dense: Optical density of haematoxylin.
        halo: Nearness to a nucleus, 1 at its outline, 0 from 1.45 radii on.
    """

    cover: Plane
    dense: Plane
    halo: Plane


def draw(
    rng: np.random.Generator,
    grid: Grid,
    nuclei: Nuclei,
    *,
    uneven: float,
    rim: float,
    nucleoli: float,
    halo: bool,
) -> Drawn:
    """Draw nuclei of one kind; where two overlap the denser one is seen.

    Args:
        rng: Draws outlines and nucleoli.
        grid: The tile.
        nuclei: Where and how large.
        uneven: How far outlines stray from ellipses, as a share of the radius.
        rim: How much denser the membrane is than the middle: 0 none, 1 twice.
        nucleoli: Density of a nucleolus over that of the nucleus.
        halo: Whether the pale rim about them is drawn; without it that plane is zero.
    """
    planes = [np.zeros(grid.pixels**2, np.float32) for _ in range(3)]
    if len(nuclei):
        _stamp(rng, grid, nuclei, (uneven, rim, nucleoli), planes if halo else planes[:2])
    cover, dense, rims = (plane.reshape(grid.pixels, grid.pixels) for plane in planes)
    return Drawn(cover, dense, rims)


def _stamp(
    rng: np.random.Generator,
    grid: Grid,
    nuclei: Nuclei,
    look: tuple[float, float, float],
    planes: list[Plane],
) -> None:
    uneven, rim, nucleoli = (np.float32(value) for value in look)
    count, mpp = len(nuclei), np.float32(grid.mpp)
    beyond = np.float32(_HALO if len(planes) == 3 else _OUTLINE)
    longest = float((nuclei.radius * np.sqrt(nuclei.longish)).max())
    reach = int(np.ceil(longest * (beyond + uneven) / mpp)) + 1
    offsets = np.arange(-reach, reach + 1)
    row = np.floor(nuclei.y / mpp).astype(np.int32)[:, None, None] + offsets[None, :, None]
    column = np.floor(nuclei.x / mpp).astype(np.int32)[:, None, None] + offsets[None, None, :]
    dy = (row + np.float32(0.5)) * mpp - nuclei.y[:, None, None]
    dx = (column + np.float32(0.5)) * mpp - nuclei.x[:, None, None]
    cos, sin = np.cos(nuclei.angle)[:, None, None], np.sin(nuclei.angle)[:, None, None]
    stretch = np.sqrt(nuclei.longish)[:, None, None]
    radius = nuclei.radius[:, None, None]
    along, across = (cos * dx + sin * dy) / (radius * stretch), (cos * dy - sin * dx) * stretch
    across = across / radius
    squared = along * along + across * across
    rho = np.sqrt(squared)
    # Harmonics 2 and 3 of the outline, without an angle: cos 2a = (c^2 - s^2) / r^2.
    a, b, c = rng.uniform(-uneven, uneven, (3, count)).astype(np.float32)[:, :, None, None]
    safe = np.maximum(squared, np.float32(0.05))
    second = (a * (along * along - across * across) + b * (2 * along * across)) / safe
    third = c * (along * (along * along - 3 * across * across)) / (safe * np.sqrt(safe))
    rho = rho / (1 + second + third)
    cover = np.clip((1 - rho) * (radius / mpp) + np.float32(0.5), 0, 1)
    membrane = np.clip(1 - np.abs(rho - np.float32(0.88)) / np.float32(0.18), 0, 1)
    shade = 1 + rim * (membrane - np.float32(0.35))
    if nucleoli > 0:
        ny, nx = rng.uniform(-0.4, 0.4, (2, count)).astype(np.float32)[:, :, None, None]
        spot = (along - nx) ** 2 + (across - ny) ** 2
        shade = shade + nucleoli * np.clip(1 - spot / np.float32(0.05), 0, 1)
    dense = cover * shade * nuclei.dark[:, None, None]
    within = (row >= 0) & (row < grid.pixels) & (column >= 0) & (column < grid.pixels)
    # Half a pixel of an outline lies beyond it.
    within &= rho < np.maximum(beyond, 1 + mpp / radius)
    index = (row * grid.pixels + column)[within]
    np.maximum.at(planes[0], index, cover[within])
    np.maximum.at(planes[1], index, dense[within])
    if len(planes) == 3:
        rims = np.clip((np.float32(_HALO) - rho[within]) / np.float32(_HALO - 1), 0, 1)
        np.maximum.at(planes[2], index, rims)


def inside(grid: Grid, nuclei: Nuclei, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which nuclei have their centre in a mask; one beyond the edge is taken to the edge."""
    last = grid.pixels - 1
    row = np.clip((nuclei.y / grid.mpp).astype(np.intp), 0, last)
    column = np.clip((nuclei.x / grid.mpp).astype(np.intp), 0, last)
    return np.asarray(mask[row, column])


def without(nuclei: Nuclei, others: Nuclei, apart: float) -> Nuclei:
    """Return the nuclei whose centres keep ``apart`` times the sum of radii to every other."""
    if not len(nuclei) or not len(others):
        return nuclei
    squared = (nuclei.y[:, None] - others.y) ** 2 + (nuclei.x[:, None] - others.x) ** 2
    least = (np.float32(apart) * (nuclei.radius[:, None] + others.radius)) ** 2
    return nuclei.only(np.asarray((squared >= least).all(axis=1)))


def joined(first: Nuclei, second: Nuclei) -> Nuclei:
    """Return two sets as one."""
    pairs = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("y", "x", "radius", "longish", "angle", "dark")
    }
    return replace(first, **pairs)
