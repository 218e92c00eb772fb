"""Intensities to [0, 1]: by percentiles of the crop, or by a window that is the same everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.imaging.geometry import Grid, voxels_inside
from voxella.imaging.volume import Array, Volume
from voxella.recipe.model import Intensity

__all__ = ["finite", "intensity_window", "normalise"]

# A map whose brightest voxels reach no further into a fixed window is in other units.
_LEAST_OF_WINDOW = 0.01
_BRIGHT_PERCENTILE = 99.5


def intensity_window(
    sequence: str, volume: Volume, grid: Grid, rule: Intensity
) -> tuple[float, float]:
    """Return the intensities that become 0 and 1.

    Args:
        sequence: Its name, for the message.
        volume: The scan, every voxel finite.
        grid: Percentiles are those of the voxels inside its box.
        rule: Percentiles or a fixed window.

    Raises:
        UserError: The sequence does not meet the grid, is constant there, or does not fill a fixed
            window, as an ADC map in other units.
    """
    values = voxels_inside(volume, grid)
    if not values.size:
        raise UserError(f"{sequence}: none of it lies within the first sequence's crop")
    if rule.window is not None:
        return _checked(sequence, values, rule.window)
    assert rule.percentiles is not None, "a rule has one of the two"
    low, high = (float(value) for value in np.percentile(values, rule.percentiles))
    if not low < high:
        raise UserError(
            f"{sequence}: constant inside the crop (percentiles {rule.percentiles[0]:g} and "
            f"{rule.percentiles[1]:g} are both {low:g})"
        )
    return low, high


def _checked(
    sequence: str, values: NDArray[np.float32], window: tuple[float, float]
) -> tuple[float, float]:
    low, high = window
    bright = float(np.percentile(values, _BRIGHT_PERCENTILE))
    dark = float(values.min())
    if bright < low + _LEAST_OF_WINDOW * (high - low) or dark >= high:
        raise UserError(
            f"{sequence}: its intensities ({dark:g} to {bright:g}) do not fit the fixed window "
            f"{low:g} to {high:g}; in other units? (prepare.intensity.{sequence}.window)"
        )
    return low, high


def normalise(array: NDArray[np.float32], window: tuple[float, float]) -> Array:
    """Map a window of intensities to [0, 1] and clip."""
    low, high = window
    # In float64: a window can be a small part of a large range.
    scaled = (array.astype(np.float64) - low) / (high - low)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def finite(volume: Volume) -> tuple[Volume, int]:
    """Replace NaN and infinity by the smallest finite value; return how many there were."""
    bad = ~np.isfinite(volume.array)
    count = int(bad.sum())
    if not count:
        return volume, 0
    darkest = volume.array[~bad].min() if not bad.all() else np.float32(0)
    return Volume(np.where(bad, darkest, volume.array), volume.affine), count
