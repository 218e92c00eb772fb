"""Intensities to [0, 1]: by percentiles of the crop, by a window, or left as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxella.imaging.geometry import Grid, values_at, voxels_inside
from voxella.imaging.problem import ImageError
from voxella.imaging.volume import Array, Volume
from voxella.recipe.inputs import Intensity

__all__ = ["as_stored", "finite", "intensity_window", "normalise"]

# A map whose brightest voxels reach no further into a fixed window is in other units.
_LEAST_OF_WINDOW = 0.01
_BRIGHT_PERCENTILE = 99.5
# Voxels of the grid along each axis that are passed over where contrast is sought.
_GLANCE = 4


def intensity_window(
    sequence: str, volume: Volume, grid: Grid, rule: Intensity, white: float = 1.0
) -> tuple[float, float]:
    """Return the intensities that become 0 and 1.

    Args:
        sequence: Its name, for the message.
        volume: The scan, every voxel finite.
        grid: Percentiles are those of the voxels inside its box.
        rule: Percentiles, a fixed window, or neither: 0 to white.
        white: The number that stands for white in the file.

    Raises:
        ImageError: The sequence does not meet the grid's box or none of its voxels, is constant
            there, does not fill a fixed window, as an ADC map in other units, or leaves 0 to white.
    """
    values = voxels_inside(volume, grid)
    if not values.size:
        problem = f"{sequence}: none of it lies within the first sequence's crop"
        raise ImageError(problem, code="geometry.no-overlap")
    if rule.rule is not None:
        window = as_stored(sequence, values, white)
    else:
        window = rule.window or _by_percentiles(sequence, values, rule)
    if rule.window is not None:
        _check_units(sequence, values, window)
    _check_contrast(sequence, volume, grid, window)
    return window


def as_stored(sequence: str, values: NDArray[np.float32], white: float) -> tuple[float, float]:
    """Return 0 and white, the window of an image whose values stay.

    Raises:
        ImageError: Values lie outside.
    """
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > white:
        raise ImageError(
            f"{sequence}: its values ({low:g} to {high:g}) leave 0 to {white:g}, and "
            f"prepare.intensity.{sequence}.rule keeps them as they are",
            code="image.units",
            remedy="give the sequence percentiles or a window in the place of the rule",
        )
    return 0.0, white


def _by_percentiles(
    sequence: str, values: NDArray[np.float32], rule: Intensity
) -> tuple[float, float]:
    assert rule.percentiles is not None, "a rule has one of the two"
    low, high = (float(value) for value in np.percentile(values, rule.percentiles))
    if not low < high:
        raise ImageError(
            f"{sequence}: constant inside the crop (percentiles {rule.percentiles[0]:g} and "
            f"{rule.percentiles[1]:g} are both {low:g})",
            code="image.constant-crop",
        )
    return low, high


def _check_units(sequence: str, values: NDArray[np.float32], window: tuple[float, float]) -> None:
    low, high = window
    bright = float(np.percentile(values, _BRIGHT_PERCENTILE))
    dark = float(values.min())
    if bright < low + _LEAST_OF_WINDOW * (high - low) or dark >= high:
        raise ImageError(
            f"{sequence}: its intensities ({dark:g} to {bright:g}) do not fit the fixed window "
            f"{low:g} to {high:g}; in other units? (prepare.intensity.{sequence}.window)",
            code="image.units",
        )


def _check_contrast(sequence: str, volume: Volume, grid: Grid, window: tuple[float, float]) -> None:
    """Refuse what would be prepared as nothing but padding, or as one grey."""
    for step in (_GLANCE, 1):  # nearly always a glance shows that there is contrast
        seen = np.clip(values_at(volume, grid, step), *window)
        if seen.size and seen.min() < seen.max():
            return
    if not seen.size:
        problem = f"{sequence}: no prepared voxel lies within it, all would be padding"
        raise ImageError(problem, code="geometry.no-scan")
    raise ImageError(
        f"{sequence}: constant inside the crop, as far as prepared voxels see it (window "
        f"{window[0]:g} to {window[1]:g})",
        code="image.constant-crop",
    )


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
