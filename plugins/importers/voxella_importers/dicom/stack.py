"""Slices to one volume's geometry, or the reason why they are not one volume.

A reader that is handed a list of files believes that they are one evenly spaced stack. Here it is
checked that they are: SimpleITK turns a missing slice into another spacing, and three b-values into
three times the slices (measured with 2.5).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella_importers.dicom.slice import DIFFERENCES, Slice

__all__ = ["Refusal", "Stack", "plane_of", "stack"]

Vector = NDArray[np.float64]

_PLANES = ("sagittal", "coronal", "axial")
# Two unit vectors that differ by less are the same one; files round theirs to 6 decimals or more.
_SAME_DIRECTION = 1e-4
_SAME_PLACE_MM = 0.01
_SAME_SPACING = 1e-5  # a hundredth of a voxel over a thousand
# Gaps of one volume differ by less than this share of a gap.
_EVEN = 0.02
# Sideways shift per slice, as a share of the gap, that is still rounding. More is a tilted gantry.
_STRAIGHT = 2e-3
# SliceThickness that differs from the gap by more than this share is told.
_THICKNESS = 0.01


class Refusal(Exception):
    """Why a series, or a study, cannot be imported. Holds nothing that identifies a person."""


@dataclass(frozen=True)
class Stack:
    """One volume.

    Attributes:
        slices: In the order of the affine's third axis.
        affine: ``(4, 4)`` (column, row, slice) to LPS+ mm.
        gap: Distance of slices in mm.
        thickness: SliceThickness in mm where it is not the gap, else None.
    """

    slices: tuple[Slice, ...]
    affine: Vector
    gap: float
    thickness: float | None


def plane_of(orientation: Sequence[float]) -> str:
    """Return the plane that slices of this orientation are nearest to."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    return _PLANES[int(np.argmax(np.abs(np.cross(row, column))))]


def stack(slices: Sequence[Slice]) -> Stack:
    """Put slices in order and compute the volume's affine from them.

    The third column is the slices' normal times their mean distance, the first slice's position the
    origin: DICOM PS3.3 C.7.6.2.1.1, with the step between slices that it leaves open.

    Raises:
        Refusal: They are not one evenly spaced stack.
    """
    row, column = _axes(slices)
    normal = np.cross(row, column)
    places = np.array([one.position for one in slices], dtype=np.float64)
    depths = places @ normal
    order = np.argsort(depths, kind="stable")
    steps = np.diff(depths[order])
    if (steps < _SAME_PLACE_MM).any():
        raise Refusal(_repeated([slices[index] for index in order], steps))
    if len(slices) < 2:
        raise Refusal("only one slice; a volume has several")
    _check_even(steps)
    gap = float(steps.mean())
    first, last = places[order[0]], places[order[-1]]
    step = (last - first) / len(steps)
    if np.linalg.norm(step - gap * normal) > _STRAIGHT * gap:
        raise Refusal("slices shifted sideways (a tilted gantry); resample it onto a straight grid")
    affine = np.eye(4)
    # PixelSpacing is (between rows, between columns); a column index moves along a row.
    affine[:3, 0] = row * slices[0].spacing[1]
    affine[:3, 1] = column * slices[0].spacing[0]
    affine[:3, 2] = normal * gap
    affine[:3, 3] = first
    thickness = slices[0].thickness
    differs = thickness is not None and abs(thickness - gap) > _THICKNESS * gap
    return Stack(
        slices=tuple(slices[index] for index in order),
        affine=affine,
        gap=gap,
        thickness=thickness if differs else None,
    )


def _axes(slices: Sequence[Slice]) -> tuple[Vector, Vector]:
    """Return the unit vectors along rows and columns that all slices have in common."""
    if not slices:
        raise Refusal("no slice that can be read")
    orientations = np.array([one.orientation for one in slices], dtype=np.float64)
    if np.abs(orientations - orientations[0]).max() > _SAME_DIRECTION:
        raise Refusal("mixed orientation: its slices are not parallel, or not turned the same way")
    if len({one.size for one in slices}) > 1:
        raise Refusal("different matrix sizes among its slices")
    spacings = np.array([one.spacing for one in slices], dtype=np.float64)
    if (np.abs(spacings / spacings[0] - 1.0) > _SAME_SPACING).any():
        raise Refusal("different pixel spacings among its slices")
    row, column = orientations[0, :3], orientations[0, 3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1.0) for length in lengths) > 1e-3 or abs(row @ column) > 1e-3:
        raise Refusal("ImageOrientationPatient is not two unit vectors at a right angle")
    row = row / lengths[0]
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _check_even(steps: Vector) -> None:
    least = float(steps.min())
    if steps.max() - least <= _EVEN * least:
        return
    ratios = steps / least
    if np.abs(ratios - np.round(ratios)).max() > 2 * _EVEN * ratios.max():
        raise Refusal(f"uneven gaps between slices, {least:.3g} to {steps.max():.3g} mm")
    missing = int(np.round(ratios).sum()) - len(steps)
    after = int(np.argmax(ratios)) + 1
    raise Refusal(
        f"{missing} missing slice{'s' if missing > 1 else ''}: a gap of {steps.max():.3g} mm after "
        f"slice {after} of {len(steps) + 1}, where others are {least:.3g} mm"
    )


def _repeated(slices: Sequence[Slice], steps: Vector) -> str:
    """Say why there are several images at one position."""
    images = len({one.uid for one in slices})
    if images < len(slices):
        return f"{len(slices) - images} duplicate slices: the same image lies there more than once"
    at = np.concatenate([[0], np.cumsum(steps >= _SAME_PLACE_MM)])
    positions = int(at[-1]) + 1
    for name, told in DIFFERENCES.items():
        groups: dict[str, Counter[int]] = defaultdict(Counter)
        for place, one in zip(at.tolist(), slices, strict=True):
            groups[one.differences.get(name, "")][place] += 1
        # Each value has to make a volume of its own: a time may also differ from slice to slice.
        whole = all(len(g) == positions and set(g.values()) == {1} for g in groups.values())
        if len(groups) > 1 and whole:
            return f"{len(groups)} {told} in one series ({len(slices)} images, {positions} slices)"
    most = max(Counter(at.tolist()).values())
    return (
        f"up to {most} images at one position ({len(slices)} images, {positions} slices): "
        "time points, or slices that were sent twice"
    )
