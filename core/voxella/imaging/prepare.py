"""Raw volumes of one case to the training grid, in the paper's order: crop, normalise, resample.

The percentiles are those of the crop. The kernel may look at voxels beyond the crop's edge, where
the paper, which cuts first, repeats the edge; no value further than 5 source voxels from an edge
differs. Lanczos overshoots, so the result is clipped to [0, 1] once more. The released code takes
the percentiles of the resampled volume instead (``prepare.percentiles_of``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxella.imaging.geometry import (
    Grid,
    centred_grid,
    oblique_degrees,
    padding_mm,
    resample,
    share_outside,
)
from voxella.imaging.intensity import finite, intensity_window, normalise
from voxella.imaging.mask import crop_shift, mask_array
from voxella.imaging.problem import ImageError
from voxella.imaging.volume import Affine, Array, Volume
from voxella.recipe.model import Prepare

__all__ = ["Prepared", "prepare_images"]


@dataclass(frozen=True)
class Prepared:
    """The images of one case on one grid.

    Attributes:
        images: ``(R, A, S)`` float32 in [0, 1] by sequence; ``(R, A)`` for a 2D recipe.
        affine: ``(4, 4)`` of the grid, voxel index to RAS+ mm.
        facts: What the prepared manifest keeps in ``extra``: ``spacing_mm`` and ``padded_mm`` (by
            how much the crop exceeds the first sequence) as [r, a, s], ``crop_centre_mm``,
            ``source_affine``, ``straightened``; and by sequence ``oblique_degrees``,
            ``intensity_window`` and, where there is any, ``padded_share`` (of the grid's voxels)
            and ``nonfinite_voxels``.
    """

    images: dict[str, Array]
    affine: Affine
    facts: dict[str, Any]


def prepare_images(
    volumes: Mapping[str, Volume], settings: Prepare, mask: Volume | None = None
) -> Prepared:
    """Crop, normalise and resample the sequences of one case.

    The first sequence's field of view decides the grid; the others are resampled onto it wherever
    they lie in the scanner.

    Args:
        volumes: By sequence, in the recipe's order.
        settings: The recipe's ``prepare`` block, with two or three axes. A two-dimensional one
            takes images of one slice.
        mask: What the crop is centred on, where the settings name one (``crop_around``).

    Raises:
        ImageError: A sequence is constant, does not fit its window or holds no finite value inside
            the crop, does not meet the grid, or has more than one slice where the recipe is
            two-dimensional; the mask is missing, empty or elsewhere.
    """
    axes = len(settings.size)
    if axes == 2:
        _check_one_slice(volumes)
    reference = next(iter(volumes.values()))
    crop = (*settings.crop_mm, *[None] * (3 - axes))
    shift = _shift(reference, crop, settings.crop_around, mask)
    shape = (*settings.size, *[1] * (3 - axes))
    grid = centred_grid(reference, crop, shape, shift=shift, straighten=settings.straighten)
    images: dict[str, Array] = {}
    found: dict[str, dict[str, Any]] = {}
    for sequence, raw in volumes.items():
        image, found[sequence] = _channel(sequence, raw, grid, settings)
        images[sequence] = image[..., 0] if axes == 2 else image
    facts: dict[str, Any] = {
        "spacing_mm": [round(float(edge), 6) for edge in grid.spacing_mm[:axes]],
        "padded_mm": padding_mm(reference, crop, shift)[:axes],
        "crop_centre_mm": [round(float(value), 4) for value in grid.middle_mm],
        "source_affine": np.round(reference.affine, 6).tolist(),
        "straightened": settings.straighten,
    }
    for key in ("oblique_degrees", "intensity_window", "padded_share", "nonfinite_voxels"):
        by_sequence = {name: facts[key] for name, facts in found.items() if key in facts}
        if by_sequence:
            facts[key] = by_sequence
    return Prepared(images, grid.affine, facts)


def _shift(
    reference: Volume, crop: Sequence[float | None], name: str | None, mask: Volume | None
) -> Sequence[float]:
    if name is None:
        return (0.0, 0.0, 0.0)
    if mask is None:
        raise ImageError(f"{name}: there is no such mask to crop around", code="mask.crop")
    shift: list[float] = crop_shift(reference, crop, mask, name).tolist()
    return shift


def _channel(
    sequence: str, raw: Volume, grid: Grid, settings: Prepare
) -> tuple[Array, dict[str, Any]]:
    """Return one sequence on the grid, and what was found on the way."""
    volume, lost = finite(raw)
    facts: dict[str, Any] = {"oblique_degrees": round(oblique_degrees(volume), 2)}
    if sequence == settings.crop_around:
        # A mask that is an image channel as well stays a mask.
        image = resample(Volume(mask_array(volume), volume.affine), grid, "nearest")
    else:
        image, window = _scaled(sequence, volume, grid, settings)
        facts["intensity_window"] = list(window)
    if outside := round(share_outside(volume, grid), 6):
        facts["padded_share"] = outside
    if lost:
        facts["nonfinite_voxels"] = lost
    return image, facts


def _scaled(
    sequence: str, volume: Volume, grid: Grid, settings: Prepare
) -> tuple[Array, tuple[float, float]]:
    """Return a sequence on the grid in [0, 1], and the intensities that became 0 and 1."""
    rule = settings.intensity_of(sequence)
    if settings.percentiles_of == "resampled" and rule.percentiles is not None:
        on_grid = Volume(resample(volume, grid, settings.interpolation), grid.affine)
        window = intensity_window(sequence, on_grid, grid, rule)
        return normalise(on_grid.array, window), window
    window = intensity_window(sequence, volume, grid, rule)
    scaled = Volume(normalise(volume.array, window), volume.affine)
    return np.clip(resample(scaled, grid, settings.interpolation), 0.0, 1.0), window


def _check_one_slice(volumes: Mapping[str, Volume]) -> None:
    thick = [
        f"{name} has {v.array.shape[2]}" for name, v in volumes.items() if v.array.shape[2] > 1
    ]
    if thick:
        raise ImageError(
            f"a two-dimensional recipe takes images of one slice; {', '.join(thick)}",
            code="geometry.slices",
            remedy="give prepare.size and prepare.crop_mm three entries",
        )
