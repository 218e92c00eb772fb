"""A data set's fingerprint, and the grid, the crop and the token limit that follow from it.

The rules are nnU-Net's (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z, and
``experiment_planning/experiment_planners/default_experiment_planner.py`` of nnunetv2): the median
spacing, but of a far coarser axis its finer tenth; the median extent; sizes in whole multiples of
what the networks halve. Headers are read, and reports for their number of tokens alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella.case import Case, Manifest
from voxella.check.geometry import placement
from voxella.check.headers import read_header
from voxella.check.image_header import HeaderProblem
from voxella.errors import UserError

__all__ = [
    "Fingerprint",
    "Grid",
    "propose_grid",
    "read_fingerprint",
    "target_spacing",
    "token_limit",
]

_MOST = 1000  # cases whose headers are read
_ANISOTROPY = 3.0  # nnU-Net's ANISO_THRESHOLD
_FINER_TENTH = 10
_TOKENS_PERCENTILE, _TOKENS_UNIT = 99, 8

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fingerprint:
    """What the headers of a data set's training images say.

    Attributes:
        spacings: ``(N, 3)`` voxel edges along R, A, S in mm.
        shapes: ``(N, 3)`` voxels along R, A, S.
        of: Training cases there are.
        in_mm: False of pictures, which do not say how large a pixel is.
    """

    spacings: _Floats
    shapes: _Floats
    of: int
    in_mm: bool


@dataclass(frozen=True)
class Grid:
    """What to prepare images to.

    Attributes:
        spacing: Voxel edges along the axes in mm, or in pixels.
        crop: Extent along the axes in mm, or in pixels.
        size: Voxels along the axes.
        latent: Voxels of the latent along the axes.
        padded: Share of the images that are shorter than the crop along any axis.
    """

    spacing: tuple[float, ...]
    crop: tuple[float, ...]
    size: tuple[int, ...]
    latent: tuple[int, ...]
    padded: float


def read_fingerprint(manifest: Manifest, sequence: str, *, colour: bool = False) -> Fingerprint:
    """Read the headers of a sequence's training images, of at most a thousand, evenly spaced.

    Raises:
        UserError: No header says where its image lies.
    """
    cases = manifest.split("train")
    places = []
    for case in evenly(cases):
        if sequence not in case.images:
            continue
        try:
            place = placement(read_header(manifest.image_path(case, sequence)), colour)
        except HeaderProblem:
            continue
        if place is not None:
            places.append(place)
    if not places:
        raise UserError(
            f"no training image of {sequence} in {manifest.folder} says its size",
            remedy=f"voxella check {manifest.folder}",
        )
    return Fingerprint(
        np.array([place.spacing_mm for place in places], dtype=np.float64),
        np.array([place.shape for place in places], dtype=np.float64),
        len(cases),
        all(place.in_mm for place in places),
    )


def evenly(cases: Sequence[Case], most: int = _MOST) -> list[Case]:
    """Return at most so many cases, evenly spaced over the order."""
    step = max(1, math.ceil(len(cases) / most))
    return list(cases[::step])


def target_spacing(spacings: _Floats, shapes: _Floats) -> _Floats:
    """Return nnU-Net's target spacing: the median, but of a far coarser axis its finer tenth.

    An axis is far coarser where its median spacing is over three times that of the others and it
    has under a third of their voxels. It never becomes finer than the others.
    """
    target = np.percentile(spacings, 50, axis=0)
    size = np.percentile(shapes, 50, axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != worst]
    coarser = target[worst] > _ANISOTROPY * max(target[others])
    fewer = size[worst] * _ANISOTROPY < min(size[others])
    if coarser and fewer:
        finer = float(np.percentile(spacings[:, worst], _FINER_TENTH))
        if finer < max(target[others]):
            finer = max(float(max(target[others])), finer) + 1e-5
        target[worst] = finer
    return np.asarray(target, dtype=np.float64)


def propose_grid(
    found: Fingerprint, axes: int, factor: int, halvings: int, most_voxels: int | None = None
) -> Grid:
    """Return the grid for a fingerprint.

    Args:
        found: The fingerprint.
        axes: Of the recipe's images, 2 or 3.
        factor: The autoencoder's.
        halvings: How often the diffusion model halves a latent.
        most_voxels: Above it spacings grow by 3 % at a time, the finest first, as for nnU-Net's
            low resolution; None: any size.
    """
    spacings, shapes = found.spacings[:, :axes], found.shapes[:, :axes]
    spacing = target_spacing(spacings, shapes) if axes == 3 else np.median(spacings, axis=0)
    extents = spacings * shapes
    crop = np.median(extents, axis=0)
    unit = factor * 2**halvings
    size = _size(crop, spacing, unit)
    while most_voxels is not None and math.prod(size) > most_voxels and max(size) > unit:
        coarsest = spacing.max() / spacing > 2
        spacing = spacing * np.where(coarsest if coarsest.any() else True, 1.03, 1.0)
        size = _size(crop, spacing, unit)
    return Grid(
        tuple(round(float(edge), 4) for edge in crop / np.array(size)),
        tuple(round(float(edge), 2) for edge in crop),
        size,
        tuple(n // factor for n in size),
        float(np.mean((extents < crop - spacing).any(axis=1))),
    )


def token_limit(counts: Sequence[int]) -> int:
    """Return a limit that 99 of 100 reports keep to, a multiple of 8."""
    wanted = float(np.percentile(np.array(counts), _TOKENS_PERCENTILE, method="higher"))
    return max(_TOKENS_UNIT, math.ceil(wanted / _TOKENS_UNIT) * _TOKENS_UNIT)


def _size(crop: _Floats, spacing: _Floats, unit: int) -> tuple[int, ...]:
    return tuple(max(unit, round(float(n) / unit) * unit) for n in crop / spacing)
