"""The voxel grid of a scan and where its voxels lie in the patient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella_importers.phantom.facts import Scan

__all__ = ["Grid", "patient_axes"]

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Grid:
    """Voxels of a scan.

    Attributes:
        affine: ``(4, 4)`` voxel indices to world millimetres, RAS+.
        size: Voxels along the three axes.
        spacing_mm: Their spacing.
    """

    affine: Floats
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, scan: Scan, size: tuple[int, ...]) -> Grid:
        """Build the grid whose middle is the gland's centre moved by the scan's shift."""
        steps = _turn(0, scan.tilt_deg) @ np.diag(scan.spacing_mm)
        middle = np.asarray(scan.centre_mm) + np.asarray(scan.shift_mm)
        affine = np.eye(4)
        affine[:3, :3] = steps
        affine[:3, 3] = middle - steps @ ((np.asarray(size) - 1.0) / 2.0)
        r, a, s = size
        return cls(affine, (r, a, s), scan.spacing_mm)

    def gland_frame(self, scan: Scan) -> tuple[Floats, Floats, Floats]:
        """Return each voxel's ``x, y, z`` in the gland's frame, float32 ``(R, A, S)``, in mm."""
        axes = patient_axes(scan)
        matrix = axes.T @ self.affine[:3, :3]
        offset = axes.T @ (self.affine[:3, 3] - np.asarray(scan.centre_mm))
        i, j, k = (np.arange(count, dtype=np.float32) for count in self.size)
        x, y, z = (
            (row[0] * i + start)[:, None, None]
            + (row[1] * j)[None, :, None]
            + (row[2] * k)[None, None, :]
            for row, start in zip(matrix.astype(np.float32), offset.astype(np.float32), strict=True)
        )
        return x, y, z


def patient_axes(scan: Scan) -> Floats:
    """Return the rotation ``(3, 3)`` from the gland's frame to the world's axes."""
    about_r, about_a, about_s = scan.rotation_deg
    return _turn(2, about_s) @ _turn(1, about_a) @ _turn(0, about_r)


def _turn(axis: int, degrees: float) -> Floats:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    first, second = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix
