"""Dark ellipsoids in a gland that was found: where one explains the volume better than none does.

At every place, size and conspicuity the likelihood of a lesion as ``lesions`` draws it (its shape
is known, and lies along the capsule or across the transition zone) is held against that of the
zone's own tissue. Sizes compete: too large a lesion takes in bright tissue, too small a one leaves
dark tissue unexplained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from voxella_importers.phantom.detector.anatomy import Anatomy, anatomy, coil_bias
from voxella_importers.phantom.detector.pose import Pose
from voxella_importers.phantom.gland import Gland
from voxella_importers.phantom.prostate import LESION_FLOOR

__all__ = ["Candidate", "best_lesion"]

Floats = NDArray[np.floating]

_WORK_MM = (2.0, 2.0, 2.5)  # lattice on which likelihoods are kept, along R, A, S
_SIZES_MM = (6.0, 7.0, 8.0, 9.5, 11.0, 13.0, 15.0, 17.5, 20.0, 23.0)
_CONSPICUITIES = ((0.5, 0.7, 0.9), (0.7, 0.8, 0.9))
# A lesion reaches this far into the other zone and out of the gland, as it was found.
_IN_ZONE, _IN_GLAND = 0.65, 0.85
_CORRELATED_MM3 = (120.0, 600.0)  # volume over which tissue's texture goes together
_CLIP = 3.0  # of one place's log likelihood ratio
# Of a lesion's signal: grain and noise; and partial volume, for each mm of the voxels' edges.
_LESION_SPREAD, _LESION_SPREAD_MM = 0.034, 0.01
# Of tissue about its mean, as shares of it, below and above: septa, stromal and glandular nodules.
_PERIPHERAL_SPREAD, _TRANSITION_SPREAD = (0.20, 0.15), (0.24, 0.40)
_MODE = (1.04, 0.88)
_ORDER = 1
_LATERAL, _MIDLINE_MM, _POLE = 0.2, 2.0, 0.8
_NOISE, _SLACK_MM = 0.03, 0.7


@dataclass(frozen=True)
class Candidate:
    """The likeliest lesion.

    Attributes:
        score: Log likelihood ratio against tissue without one.
        centre: In the gland's frame, mm.
        peripheral: Whether it was fitted as a lesion of the peripheral zone.
        size_mm: Largest diameter.
        conspicuity: The likeliest of a few.
    """

    score: float
    centre: tuple[float, float, float]
    peripheral: bool
    size_mm: float
    conspicuity: float


@dataclass(frozen=True)
class _Field:
    """Log likelihood ratios on a lattice in the gland's frame.

    Attributes:
        origin: Of the lattice, ``(3,)`` mm.
        ratios: ``(2, K, R, A, S)`` by zone (peripheral, transition) and conspicuity.
        zone: ``(R, A, S)``: 0 outside, 1 peripheral, 2 transition.
    """

    origin: Floats
    ratios: Floats
    zone: NDArray[np.int_]


def best_lesion(
    image: Floats, spacing_mm: tuple[float, float, float], pose: Pose
) -> Candidate | None:
    """Return the likeliest lesion, however unlikely; None where none fits into the gland.

    Args:
        image: ``(R, A, S)`` in [0, 1].
        spacing_mm: Voxel edges along R, A, S.
        pose: Of its gland.
    """
    field = _field(image, spacing_mm, pose)
    # Voxels larger than the texture's grain are independent pieces of evidence, no more.
    pieces = [max(volume, math.prod(spacing_mm)) for volume in _CORRELATED_MM3]
    found = [
        candidate
        for peripheral, piece in zip((True, False), pieces, strict=True)
        for size in _SIZES_MM
        if (candidate := _best_of_size(field, pose.gland, peripheral, size, piece)) is not None
    ]
    return max(found, key=lambda candidate: candidate.score, default=None)


def _field(image: Floats, spacing_mm: tuple[float, float, float], pose: Pose) -> _Field:
    gland = pose.gland
    reach = (gland.a * 1.2, gland.b * 1.2 + gland.bend, gland.c)
    axes = [
        np.arange(-math.ceil(most / step), math.ceil(most / step) + 1) * step
        for most, step in zip(reach, _WORK_MM, strict=True)
    ]
    shape = tuple(len(axis) for axis in axes)
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    x, y, z = lattice.T
    parts, mean = _expected(pose, (x, y, z))
    value = mean + _departure(image, spacing_mm, pose, lattice)
    slopes = np.gradient(mean.reshape(shape), *_WORK_MM)
    slack = _SLACK_MM * np.sqrt(sum(slope**2 for slope in slopes)).ravel()
    zone = np.where(parts.surface < 0.0, np.where(parts.central < 0.0, 2, 1), 0)
    tissue = _log_tissue(value, mean, zone, slack)
    spread = _LESION_SPREAD + _LESION_SPREAD_MM * math.prod(spacing_mm) ** (1 / 3)
    ratios = []
    for level, strengths in zip((pose.peripheral, pose.transition), _CONSPICUITIES, strict=True):
        for conspicuity in strengths:
            dark = level + conspicuity * (LESION_FLOOR - level)
            lesion = -0.5 * ((value - dark) / spread) ** 2 - math.log(spread)
            ratios.append(np.clip(lesion - tissue, -_CLIP, _CLIP).reshape(shape))
    stacked = np.stack(ratios).reshape(2, -1, *shape)
    return _Field(np.array([axis[0] for axis in axes]), stacked, zone.reshape(shape))


def _expected(pose: Pose, xyz: tuple[Floats, Floats, Floats]) -> tuple[Anatomy, Floats]:
    parts = anatomy(pose.gland, xyz, pose.bladder)
    return parts, (
        parts.fixed + pose.peripheral * parts.peripheral + pose.transition * parts.transition
    )


def _departure(
    image: Floats, spacing_mm: tuple[float, float, float], pose: Pose, lattice: Floats
) -> Floats:
    """Return by how much the image departs from what is expected, at points of the gland's frame.

    The difference is taken voxel by voxel and then interpolated: between large voxels, the image
    itself would show edges where they are not.
    """
    middle = (np.asarray(image.shape) - 1.0) / 2.0
    index = pose.place(lattice) / np.asarray(spacing_mm) + middle
    low = np.maximum(np.floor(index.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 3, image.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    voxels = low + np.argwhere(np.ones(image[box].shape, dtype=bool))
    xyz = pose.frame((voxels - middle) * np.asarray(spacing_mm))
    _, mean = _expected(pose, xyz)
    part = np.asarray(image[box], np.float64)
    left = part / (pose.gain * coil_bias(xyz[1]).reshape(part.shape)) - mean.reshape(part.shape)
    departure: Floats = map_coordinates(left, (index - low).T, order=_ORDER, mode="nearest")
    return departure


def _log_tissue(value: Floats, mean: Floats, zone: NDArray[np.int_], slack: Floats) -> Floats:
    """Return the log density of signal where there is no lesion: a normal one with two widths."""
    central = zone == 2
    widths = [
        np.sqrt((np.where(central, inner, outer) * mean) ** 2 + _NOISE**2 + slack**2)
        for inner, outer in zip(_TRANSITION_SPREAD, _PERIPHERAL_SPREAD, strict=True)
    ]
    below, above = widths
    apart = value - mean * np.where(central, _MODE[1], _MODE[0])
    log: Floats = -0.5 * (apart / np.where(apart < 0, below, above)) ** 2
    return log - np.log((below + above) / 2)


def _best_of_size(
    field: _Field, gland: Gland, peripheral: bool, size: float, piece: float
) -> Candidate | None:
    own = 1 if peripheral else 2
    places = np.argwhere(field.zone == own)
    places = places[places.sum(axis=1) % 2 == 0]
    centres = field.origin + places * np.asarray(_WORK_MM)
    centres = centres[_possible(gland, centres, peripheral)]
    if len(centres) == 0:
        return None
    radii, points = _shape(gland, centres, peripheral, size)
    index = np.rint((points - field.origin) / np.asarray(_WORK_MM)).astype(np.intp)
    for axis, count in enumerate(field.zone.shape):
        np.clip(index[..., axis], 0, count - 1, out=index[..., axis])
    r, a, s = np.moveaxis(index, -1, 0)
    zones = field.zone[r, a, s]
    fits = (np.mean(zones == own, axis=1) >= _IN_ZONE) & (np.mean(zones > 0, axis=1) >= _IN_GLAND)
    if not fits.any():
        return None
    r, a, s, zones = r[fits], a[fits], s[fits], zones[fits]
    inside = zones > 0
    ratios = (field.ratios[own - 1][:, r, a, s] * inside).mean(axis=2)
    strength, number = np.unravel_index(int(np.argmax(ratios)), ratios.shape)
    pieces = 4.0 / 3.0 * math.pi * math.prod(radii) / piece
    x, y, z = (float(value) for value in centres[fits][number])
    return Candidate(
        float(ratios[strength, number]) * pieces,
        (x, y, z),
        peripheral,
        size,
        _CONSPICUITIES[own - 1][strength],
    )


def _possible(gland: Gland, centres: Floats, peripheral: bool) -> NDArray[np.bool_]:
    """Return where ``lesions`` draws centres: lateral, or in front of the urethra; no pole."""
    x, y, z = centres.T
    lateral = np.abs(x) > _LATERAL * gland.a
    midline = (np.abs(x) <= _MIDLINE_MM) & (y > 0.0)
    height = np.abs(z) < _POLE * gland.c
    return np.asarray(height & (lateral if peripheral else lateral | midline))


def _shape(
    gland: Gland, centres: Floats, peripheral: bool, size: float
) -> tuple[tuple[float, float, float], Floats]:
    """Return the semi-axes of a lesion, and points spread through it at each centre, ``(N, P, 3)``.

    As ``lesions`` shapes them.
    """
    radii = (size / 2, max((0.28 if peripheral else 0.33) * size, 2.0), max(0.4 * size, 2.4))
    steps = np.linspace(-0.9, 0.9, 7)
    ball = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    along, across, up = (ball[np.linalg.norm(ball, axis=1) <= 1.0] * np.asarray(radii)).T
    if peripheral:
        yaw = np.array([gland.tangent(x, y) for x, y, _ in centres])
        bends = np.array([gland.curvature(x, y) for x, y, _ in centres]) / 2.0
        across = across - bends[:, :1] * along**2 - bends[:, 1:] * up**2
    else:
        yaw = np.arctan2(centres[:, 0], 3.0 * gland.a)
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, y = cos * along - sin * across, sin * along + cos * across
    return radii, np.stack(np.broadcast_arrays(x, y, up), axis=-1) + centres[:, None]
