"""Raw volumes of one case to the training grid, in the paper's order: crop, normalise, resample.

The percentiles are those of the crop. The kernel may look at voxels beyond the crop's edge, where
the paper, which cuts first, repeats the edge; no value further than 5 source voxels from an edge
differs. Lanczos overshoots, so the result is clipped to [0, 1] once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.imaging.geometry import Grid, centred_grid, padding_mm, resample, voxels_inside
from voxella.imaging.volume import Affine, Array, Volume
from voxella.recipe.model import Prepare

__all__ = ["Prepared", "intensity_window", "normalise", "prepare_images"]


@dataclass(frozen=True)
class Prepared:
    """The images of one case on one grid.

    Attributes:
        images: ``(R, A, S)`` float32 in [0, 1] by sequence; ``(R, A)`` for a 2D recipe.
        affine: ``(4, 4)`` of the grid, voxel index to RAS+ mm.
        facts: What the prepared manifest keeps in ``extra``: ``spacing_mm`` and ``padded_mm`` as
            [r, a, s], ``source_affine``, ``intensity_window`` by sequence, and
            ``nonfinite_voxels`` by sequence where there are any.
    """

    images: dict[str, Array]
    affine: Affine
    facts: dict[str, Any]


def prepare_images(volumes: Mapping[str, Volume], settings: Prepare) -> Prepared:
    """Crop, normalise and resample the sequences of one case.

    The first sequence's field of view decides the grid; the others are resampled onto it wherever
    they lie in the scanner.

    Args:
        volumes: By sequence, in the recipe's order.
        settings: The recipe's ``prepare`` block, with two or three axes. A two-dimensional one
            takes images of one slice.

    Raises:
        UserError: A sequence is constant or holds no finite value inside the crop, does not meet
            the grid, or has more than one slice where the recipe is two-dimensional.
    """
    axes = len(settings.size)
    if axes == 2:
        _check_one_slice(volumes)
    crop = (*settings.crop_mm, *[None] * (3 - axes))
    name, *_ = volumes
    reference = volumes[name]
    grid = centred_grid(reference, crop, (*settings.size, *[1] * (3 - axes)))
    images: dict[str, Array] = {}
    windows: dict[str, list[float]] = {}
    nonfinite: dict[str, int] = {}
    for sequence, raw in volumes.items():
        volume, lost = _finite(raw)
        window = intensity_window(sequence, volume, grid, settings.percentiles)
        scaled = Volume(normalise(volume.array, window), volume.affine)
        image = np.clip(resample(scaled, grid, settings.interpolation), 0.0, 1.0)
        images[sequence] = image[..., 0] if axes == 2 else image
        windows[sequence] = list(window)
        if lost:
            nonfinite[sequence] = lost
    facts: dict[str, Any] = {
        "spacing_mm": [round(float(edge), 6) for edge in grid.spacing_mm[:axes]],
        "padded_mm": padding_mm(reference, crop)[:axes],
        "source_affine": np.round(reference.affine, 6).tolist(),
        "intensity_window": windows,
    }
    if nonfinite:
        facts["nonfinite_voxels"] = nonfinite
    return Prepared(images, grid.affine, facts)


def intensity_window(
    sequence: str, volume: Volume, grid: Grid, percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Return the intensities that become 0 and 1: percentiles of the voxels inside the grid's box.

    Raises:
        UserError: The sequence does not meet the grid, or is constant there.
    """
    values = voxels_inside(volume, grid)
    if not values.size:
        raise UserError(f"{sequence}: none of it lies within the first sequence's crop")
    low, high = (float(value) for value in np.percentile(values, percentiles))
    if not low < high:
        raise UserError(
            f"{sequence}: constant inside the crop (percentiles {percentiles[0]:g} and "
            f"{percentiles[1]:g} are both {low:g})"
        )
    return low, high


def normalise(array: NDArray[np.float32], window: tuple[float, float]) -> Array:
    """Map a window of intensities to [0, 1] and clip."""
    low, high = window
    # In float64: a window can be a small part of a large range.
    scaled = (array.astype(np.float64) - low) / (high - low)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def _finite(volume: Volume) -> tuple[Volume, int]:
    """Replace NaN and infinity by the smallest finite value; return how many there were."""
    bad = ~np.isfinite(volume.array)
    count = int(bad.sum())
    if not count:
        return volume, 0
    darkest = volume.array[~bad].min() if not bad.all() else np.float32(0)
    return Volume(np.where(bad, darkest, volume.array), volume.affine), count


def _check_one_slice(volumes: Mapping[str, Volume]) -> None:
    thick = [
        f"{name} has {v.array.shape[2]}" for name, v in volumes.items() if v.array.shape[2] > 1
    ]
    if thick:
        raise UserError(
            f"a two-dimensional recipe takes images of one slice; {', '.join(thick)}",
            remedy="give prepare.size and prepare.crop_mm three entries",
        )
