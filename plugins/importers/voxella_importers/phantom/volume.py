"""A case's facts to its voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom.facts import CaseFacts
from voxella_importers.phantom.grid import Grid
from voxella_importers.phantom.pelvis import paint_pelvis
from voxella_importers.phantom.prostate import paint_prostate
from voxella_importers.phantom.settings import stream
from voxella_importers.phantom.tissue import Texture, acquire

__all__ = ["Volume", "render"]


@dataclass(frozen=True)
class Volume:
    """A rendered case.

    Attributes:
        image: int16 ``(R, A, S)``.
        labels: uint8 ``(R, A, S)``, see :data:`voxella_importers.phantom.truth.LABELS`.
        affine: ``(4, 4)`` voxel indices to world millimetres, RAS+.
    """

    image: NDArray[np.int16]
    labels: NDArray[np.uint8]
    affine: NDArray[np.floating]


def render(facts: CaseFacts, size: tuple[int, ...]) -> Volume:
    """Render a case on a grid of ``size`` voxels; a function of the facts and the size alone."""
    rng = stream(facts.seed, facts.id, "voxels")
    grid = Grid.of(facts.scan, size)
    x, y, z = grid.gland_frame(facts.scan)
    texture = Texture(rng, grid.size, grid.spacing_mm)
    signal, labels = paint_pelvis(facts, x, y, z, texture, rng)
    box = _gland_box(facts, x, y, z)
    inner = tuple(axis[box] for axis in (x, y, z))
    shape = inner[0].shape
    local = Texture(rng, (shape[0], shape[1], shape[2]), grid.spacing_mm)
    paint_prostate(signal[box], labels[box], facts, (inner[0], inner[1], inner[2]), local, rng)
    # Coil sensitivity: brighter towards the coils in front and behind, and a slow drift.
    bias = np.exp(0.06 * texture(110.0) + 0.22 * ((y / 80.0) ** 2 - 0.2))
    np.maximum(signal, 0.0, out=signal)
    image = acquire(signal, bias, rng, noise=facts.scan.noise, gain=facts.scan.gain)
    return Volume(image, labels, grid.affine)


def _gland_box(facts: CaseFacts, *axes: NDArray[np.floating]) -> tuple[slice, slice, slice]:
    """Return the box of voxels that holds the gland and its capsule."""
    gland = facts.patient.gland
    reach = (
        gland.a * (1 + gland.taper) + 4,
        gland.b * (1 + gland.taper) + gland.bend + 4,
        gland.c + 4,
    )
    near = np.ones(axes[0].shape, bool)
    for axis, limit in zip(axes, reach, strict=True):
        near &= np.abs(axis) < limit
    first, second, third = (
        slice(int(found[0]), int(found[-1]) + 1)
        for found in (np.flatnonzero(near.any(axis=tuple({0, 1, 2} - {n}))) for n in range(3))
    )
    return first, second, third
