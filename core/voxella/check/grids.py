"""Sequences of a case beside each other, and cases beside most cases: by their headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from voxella.check.catalogue import found
from voxella.check.finding import Finding
from voxella.check.geometry import Placement
from voxella.check.settings import CaseImages, CheckSettings

__all__ = ["PADDING_MM", "case_grids", "odd_planes"]

# Grids agree when no corner lies further apart than this share of the finest voxel edge.
_SAME = 0.1
# Points per axis at which it is asked whether a sequence covers the crop.
_LATTICE = 9
_LEAST_COVER = 0.8
# A point on the very edge of a field of view counts as inside (voxels).
_EDGE = 1e-6
# Along an axis of the crop, less padding than this is a matter of rounding (mm).
PADDING_MM = 0.5


def case_grids(
    own: CaseImages, places: Mapping[str, Placement], settings: CheckSettings
) -> Iterator[Finding]:
    """Judge a case's sequences against the crop and against each other.

    Args:
        own: The case's images.
        places: Of those that say where they lie, by sequence.
        settings: The crop.
    """
    for name, place in places.items():
        slices = place.shape[2]
        if settings.sequences is None and not place.in_mm:
            continue  # A picture has one; no recipe says whether volumes are wanted.
        if (slices > 1) if settings.flat else (min(place.shape) == 1):
            message = f"{slices} slices" if settings.flat else "one slice"
            yield found("geometry.slices", message, case=own.case, where=name)
    yield from _without_mm(own, places, settings)
    # Without the sequence that decides the grid there is no crop to hold the others against.
    reference = places.get(own.reference)
    if reference is None:
        return
    yield from _field_of_view(own, reference, settings)
    for name, place in places.items():
        if name != own.reference and not _same_grid(place, reference):
            yield from _beside(own, name, place, reference, settings)


def odd_planes(planes: Mapping[str, Mapping[str, str | None]]) -> Iterator[Finding]:
    """Name the cases whose plane of acquisition is not that of most cases.

    Args:
        planes: Plane by sequence by case; a case that is nearly isotropic (None) is never odd.
    """
    sequences = dict.fromkeys(name for own in planes.values() for name in own)
    for sequence in sequences:
        seen = Counter(plane for own in planes.values() if (plane := own.get(sequence)))
        # A tie is decided for axial, which recipes crop.
        usual = max(seen, key=lambda plane: (seen[plane], plane == "axial"), default=None)
        for case, own in planes.items():
            plane = own.get(sequence)
            if plane is not None and plane != usual:
                message = f"{plane}, and {seen[usual or '']} cases are {usual}"
                yield found("geometry.plane", message, case=case, where=sequence)


def _without_mm(
    own: CaseImages, places: Mapping[str, Placement], settings: CheckSettings
) -> Iterator[Finding]:
    if settings.sequences is None:
        return  # A default crop is nobody's wish.
    for name, place in places.items():
        if not place.in_mm and any(edge is not None for edge in settings.crop_mm):
            message = "no size of a pixel, and prepare.crop_mm cuts by millimetres"
            yield found("geometry.no-spacing", message, case=own.case, where=name)


def _field_of_view(own: CaseImages, place: Placement, settings: CheckSettings) -> Iterator[Finding]:
    voxels = settings.prepare.crop_voxels
    if voxels is not None:
        short = [
            f"{there} of {crop} pixels along {axis}"
            for axis, there, crop in zip("RAS", place.shape, voxels, strict=False)
            if crop is not None and crop > there
        ]
    elif not place.in_mm:
        return
    else:
        short = _short_mm(place, settings)
    if short:
        message = ", ".join(short)
        yield found("geometry.field-of-view", message, case=own.case, where=own.reference)


def _short_mm(place: Placement, settings: CheckSettings) -> list[str]:
    return [
        f"{extent:.0f} of {crop:g} mm along {axis}"
        for axis, extent, crop in zip("RAS", place.extent_mm, settings.crop_mm, strict=True)
        if crop is not None and crop - extent > PADDING_MM
    ]


def _beside(
    own: CaseImages, name: str, place: Placement, reference: Placement, settings: CheckSettings
) -> Iterator[Finding]:
    # Where the crop lies is not known before a mask that it is centred on has been read.
    around = settings.prepare.crop_around is not None
    crop_mm = (None, None, None) if around else settings.crop_mm
    covered = _coverage(place, reference, crop_mm)
    message = f"{_size(place)}, beside {_size(reference)} of {own.reference}"
    code = "geometry.grids-differ"
    if name in own.masks:
        pass  # A mask may be cut to the organ.
    elif covered == 0.0:
        code = "geometry.no-overlap"
    elif covered < _LEAST_COVER:
        code, message = "geometry.partial-overlap", f"it covers {100 * covered:.0f} % of the crop"
    yield found(code, message, case=own.case, where=name)


def _same_grid(one: Placement, other: Placement) -> bool:
    if one.shape != other.shape:
        return False
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.asarray(one.shape) - 1)
    apart = _apply(one.affine, corners) - _apply(other.affine, corners)
    return bool(np.linalg.norm(apart, axis=1).max() <= _SAME * other.spacing_mm.min())


def _coverage(place: Placement, reference: Placement, crop_mm: tuple[float | None, ...]) -> float:
    """Return the share of the first sequence's crop, as far as that has voxels, that is covered."""
    counts = np.asarray(reference.shape, dtype=np.float64)
    spacing = reference.spacing_mm
    edges = [
        count if crop is None else min(count, crop / edge)
        for count, crop, edge in zip(counts, crop_mm, spacing, strict=True)
    ]
    steps = np.linspace(-0.5, 0.5, _LATTICE)
    axes = [(count - 1) / 2 + edge * steps for count, edge in zip(counts, edges, strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    there = _apply(np.linalg.inv(place.affine) @ reference.affine, lattice)
    inside = (there >= -0.5 - _EDGE) & (there <= np.asarray(place.shape) - 0.5 + _EDGE)
    return float(inside.all(axis=1).mean())


def _apply(affine: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ affine[:3, :3].T + affine[:3, 3], dtype=np.float64)


def _size(place: Placement) -> str:
    voxels = " x ".join(str(count) for count in place.shape)
    edges = " x ".join(f"{edge:.3g}" for edge in place.spacing_mm)
    return f"{voxels} voxels of {edges} mm" if place.in_mm else f"{voxels} voxels"
