"""A picture in the making and the tissues that are painted on it the same way everywhere."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom.tissue import paint

__all__ = ["BLADDER", "BONE", "EDGE_MM", "MUSCLE", "RECTUM", "Canvas"]

Floats = NDArray[np.floating]

BLADDER, RECTUM, MUSCLE, BONE = 4, 5, 6, 7  # in the label map; 1 to 3 are the gland's
EDGE_MM = 1.2  # width of an edge between tissues


@dataclass
class Canvas:
    """An image in the making.

    Attributes:
        image: Relative T2 signal, float32 ``(R, A, S)``.
        labels: Label map, uint8, same shape.
        x: Along R in the gland's frame, mm; likewise ``y`` along A and ``z`` along S.
        fine: Noise of about a voxel's grain.
        medium: Noise of a few millimetres' grain.
        coarse: Noise of about a centimetre's grain.
        strands: Noise whose zero crossings are the fat's septa.
        spots: Noise whose peaks are small vessels.
        coils: Noise whose zero crossings part the seminal vesicles' coils.
        gland: Distance to the gland's surface, mm, unbent.
        front: How far in front of the gland's middle, in its unit ball.
    """

    image: Floats
    labels: NDArray[np.uint8]
    x: Floats
    y: Floats
    z: Floats
    fine: Floats
    medium: Floats
    coarse: Floats
    strands: Floats
    spots: Floats
    coils: Floats
    gland: Floats
    front: Floats

    def slab(self, part: slice) -> Canvas:
        """Return a view of some of the planes along R; painting it paints this canvas."""
        return Canvas(**{field.name: getattr(self, field.name)[part] for field in fields(self)})

    def bone(self, distance: Floats, level: float) -> None:
        """Paint marrow inside a black cortex."""
        cortex = 1.1 + np.clip(0.7 * self.coarse, -0.7, 1.2)
        paint(self.image, distance - cortex, 0.04, EDGE_MM)
        marrow = level * (1 + 0.12 * self.medium + 0.09 * self.fine + 0.06 * self.coarse)
        paint(self.image, distance, marrow, EDGE_MM)
        self.labels[distance < -0.5] = BONE

    def muscle(self, distance: Floats, level: float = 0.085, *, label: bool = True) -> None:
        """Paint muscle with its fibres."""
        paint(self.image, distance, level * (1 + 0.18 * self.fine + 0.15 * self.medium), EDGE_MM)
        if label:
            self.labels[distance < -0.5] = MUSCLE
