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
from voxella.imaging.intensity import as_stored, finite, intensity_window, normalise
from voxella.imaging.mask import crop_shift, mask_array
from voxella.imaging.problem import ImageError
from voxella.imaging.stains import macenko
from voxella.imaging.volume import Affine, Array, Image, Volume
from voxella.recipe.inputs import Prepare

__all__ = ["Prepared", "crop_of", "prepare_images"]

_BY_SEQUENCE = (
    *("oblique_degrees", "intensity_window", "padded_share", "nonfinite_voxels"),
    "stain_normalised",
)


@dataclass(frozen=True)
class Prepared:
    """The images of one case on one grid.

    Attributes:
        images: ``(R, A, S)`` float32 in [0, 1] by sequence; ``(R, A)`` for a 2D recipe; of colours
            ``(3, R, A, S)`` or ``(3, R, A)``.
        affine: ``(4, 4)`` of the grid, voxel index to RAS+ mm.
        facts: What the prepared manifest keeps in ``extra``: ``spacing_mm`` and ``padded_mm`` (by
            how much the crop exceeds the first sequence) as [r, a, s], ``crop_centre_mm``,
            ``source_affine``, ``straightened``; and by sequence ``oblique_degrees``,
            ``intensity_window`` and, where there is any, ``padded_share`` (of the grid's voxels)
            and ``nonfinite_voxels``; where the recipe asks for it ``stain_normalised``, whether the
            image's stains were found. Of an image without millimetres ``spacing_pixels`` (of its
            own) stands for ``spacing_mm``, and ``padded_voxels`` for ``padded_mm``.
    """

    images: dict[str, Array]
    affine: Affine
    facts: dict[str, Any]


def prepare_images(
    volumes: Mapping[str, Volume | Image], settings: Prepare, mask: Volume | None = None
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
            the crop, does not meet the grid, has more than one slice where the recipe is
            two-dimensional, or colours where it asks for grey, or the reverse; the mask is missing,
            empty or elsewhere; the crop is in mm and the image does not know any.
    """
    axes = len(settings.size)
    raw = {name: Image.of(volume) for name, volume in volumes.items()}
    if axes == 2:
        _check_one_slice(raw)
    _check_colours(raw, settings)
    first = next(iter(raw.values()))
    reference, crop = first.first, crop_of(first, settings)
    shift = _shift(reference, crop, settings.crop_around, mask)
    shape = (*settings.size, *[1] * (3 - axes))
    grid = centred_grid(reference, crop, shape, shift=shift, straighten=settings.straighten)
    images: dict[str, Array] = {}
    found: dict[str, dict[str, Any]] = {}
    for sequence, one in raw.items():
        image, found[sequence] = _sequence(sequence, one, grid, settings)
        images[sequence] = image[..., 0] if axes == 2 else image
    padded = padding_mm(reference, crop, shift)[:axes]
    facts: dict[str, Any] = {
        **_spacing(first, grid, axes),
        "padded_mm" if first.in_mm else "padded_voxels": padded,
        "crop_centre_mm": [round(float(value), 4) for value in grid.middle_mm],
        "source_affine": np.round(reference.affine, 6).tolist(),
        "straightened": settings.straighten,
    }
    for key in _BY_SEQUENCE:
        by_sequence = {name: facts[key] for name, facts in found.items() if key in facts}
        if by_sequence:
            facts[key] = by_sequence
    return Prepared(images, grid.affine, facts)


def crop_of(image: Image, settings: Prepare) -> tuple[float | None, ...]:
    """Return the crop's edges along R, A, S in the unit of the image's affine; None: the whole.

    Raises:
        ImageError: The recipe cuts by mm, and the image does not say how large its voxels are.
    """
    rest = [None] * (3 - len(settings.size))
    if settings.crop_voxels is not None:
        counts = (*settings.crop_voxels, *rest)
        edges = image.first.spacing_mm
        return tuple(
            None if n is None else float(n * e) for n, e in zip(counts, edges, strict=True)
        )
    if not image.in_mm and any(edge is not None for edge in settings.crop_mm):
        raise ImageError(
            "the image does not say how large its pixels are, and prepare.crop_mm cuts by mm",
            code="geometry.no-spacing",
            remedy="set prepare.crop_mm to nulls, or give the crop as prepare.crop_voxels",
        )
    return (*settings.crop_mm, *rest)


def _spacing(image: Image, grid: Grid, axes: int) -> dict[str, list[float]]:
    if not image.in_mm:
        return {"spacing_pixels": [round(float(edge), 6) for edge in grid.spacing_mm[:axes]]}
    return {"spacing_mm": [round(float(edge), 6) for edge in grid.spacing_mm[:axes]]}


def _shift(
    reference: Volume, crop: Sequence[float | None], name: str | None, mask: Volume | None
) -> Sequence[float]:
    if name is None:
        return (0.0, 0.0, 0.0)
    if mask is None:
        raise ImageError(f"{name}: there is no such mask to crop around", code="mask.crop")
    shift: list[float] = crop_shift(reference, crop, mask, name).tolist()
    return shift


def _sequence(
    sequence: str, image: Image, grid: Grid, settings: Prepare
) -> tuple[Array, dict[str, Any]]:
    """Return one sequence on the grid, and what was found on the way."""
    if not image.is_colour:
        return _channel(sequence, image.first, grid, settings, image.white)
    asked = settings.intensity_of(sequence).stain is not None
    restained = _restained(sequence, image) if asked else None
    given = (restained or image).channels
    channels = [_channel(sequence, one, grid, settings, image.white) for one in given]
    # One grid, one window; voxels that are no number may differ between colours.
    facts = dict(channels[0][1])
    if asked:
        facts["stain_normalised"] = restained is not None
    if lost := sum(found.get("nonfinite_voxels", 0) for _, found in channels):
        facts["nonfinite_voxels"] = lost
    return np.stack([array for array, _ in channels]), facts


def _restained(sequence: str, image: Image) -> Image | None:
    """Return an image with the reference's stains, from all of its pixels; None: none were found.

    Raises:
        ImageError: Values leave 0 to white.
    """
    volumes = [finite(channel)[0] for channel in image.channels]
    values = np.stack([volume.array for volume in volumes])
    as_stored(sequence, values, image.white)
    found = macenko(values / image.white)
    if found is None:
        return None
    pairs = zip(found, volumes, strict=True)
    channels = tuple(Volume(colour * np.float32(image.white), v.affine) for colour, v in pairs)
    return Image(channels, image.white, image.in_mm)


def _channel(
    sequence: str, raw: Volume, grid: Grid, settings: Prepare, white: float
) -> tuple[Array, dict[str, Any]]:
    """Return one sequence, or one of its colours, on the grid, and what was found on the way."""
    volume, lost = finite(raw)
    facts: dict[str, Any] = {"oblique_degrees": round(oblique_degrees(volume), 2)}
    if sequence == settings.crop_around:
        # A mask that is an image channel as well stays a mask.
        image = resample(Volume(mask_array(volume), volume.affine), grid, "nearest")
    else:
        image, window = _scaled(sequence, volume, grid, settings, white)
        facts["intensity_window"] = list(window)
    if outside := round(share_outside(volume, grid), 6):
        facts["padded_share"] = outside
    if lost:
        facts["nonfinite_voxels"] = lost
    return image, facts


def _scaled(
    sequence: str, volume: Volume, grid: Grid, settings: Prepare, white: float
) -> tuple[Array, tuple[float, float]]:
    """Return a sequence on the grid in [0, 1], and the intensities that became 0 and 1."""
    rule = settings.intensity_of(sequence)
    if settings.percentiles_of == "resampled" and rule.percentiles is not None:
        on_grid = Volume(resample(volume, grid, settings.interpolation), grid.affine)
        window = intensity_window(sequence, on_grid, grid, rule)
        return normalise(on_grid.array, window), window
    if rule.rule == "colour":
        # One colour of three may well be constant.
        window = as_stored(sequence, volume.array, white)
    else:
        window = intensity_window(sequence, volume, grid, rule, white)
    scaled = Volume(normalise(volume.array, window), volume.affine)
    return np.clip(resample(scaled, grid, settings.interpolation), 0.0, 1.0), window


def _check_colours(images: Mapping[str, Image], settings: Prepare) -> None:
    for name, image in images.items():
        wanted = settings.is_colour(name)
        if image.is_colour != wanted:
            has, asked = ("colour", "grey") if image.is_colour else ("grey", "colour")
            raise ImageError(
                f"{name}: {has}, and the recipe asks for {asked} (prepare.intensity.{name}.rule)",
                code="image.colour" if image.is_colour else "image.grey",
            )


def _check_one_slice(images: Mapping[str, Image]) -> None:
    depth = {name: image.first.array.shape[2] for name, image in images.items()}
    thick = [f"{name} has {slices}" for name, slices in depth.items() if slices > 1]
    if thick:
        raise ImageError(
            f"a two-dimensional recipe takes images of one slice; {', '.join(thick)}",
            code="geometry.slices",
            remedy="give prepare.size and prepare.crop_mm three entries",
        )
