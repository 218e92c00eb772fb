"""Voxels as 16 bits with a slope and an intercept, which DICOM's decimal strings state exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import format_number_as_ds

from voxella.imaging.volume import Array
from voxella_exporters.voxels import exact_int16

__all__ = ["Stored", "store"]

# Steps between the smallest and the largest value; a few are left over, for the slope is rounded.
_STEPS = 65000
_LOWEST = -32500


@dataclass(frozen=True)
class Stored:
    """What is written of a volume's voxels.

    Attributes:
        pixels: Same shape; a value is ``pixel * slope + intercept``.
        slope: As its decimal string reads back.
        intercept: Likewise.
    """

    pixels: NDArray[np.int16]
    slope: float
    intercept: float


def store(array: Array) -> Stored:
    """Return whole numbers of 16 bits as they are, others to the nearest of 65,000 steps.

    Args:
        array: Finite.
    """
    if (whole := exact_int16(array)) is not None:
        return Stored(whole, 1.0, 0.0)
    values = array.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    slope = decimal((high - low) / _STEPS) if high > low else 1.0
    intercept = decimal(low - _LOWEST * slope)
    pixels = np.rint((values - intercept) / slope)
    return Stored(pixels.astype(np.int16), slope, intercept)


def decimal(value: float) -> float:
    """Return the number that DICOM's decimal string of at most 16 characters says."""
    return float(format_number_as_ds(float(value)))
