"""Section "Same noise, another report": two volumes that differ by some words, and where.

The reports are the recipe's own and nobody's, so they are shown whether or not the page is to hold
reports of cases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from voxella.imaging.montage import three_planes
from voxella.imaging.volume import read_image
from voxella.report.run_folder import RunFolder
from voxella.report.section import Section
from voxella.report.sprites import data_uri
from voxella.sampling.pair import PAIR_FILE, PAIRS

__all__ = ["SameNoise", "Side", "same_noise_section"]

Floats = NDArray[np.float32]

# Longest edge of a slice in pixels, and the voxels over which differences are looked at together.
_EDGE = 360
_TOGETHER = 1.5
# The difference at which the third picture is wholly red or blue, of intensities from 0 to 1.
_FULL = 0.3


@dataclass(frozen=True)
class Side:
    """One volume.

    Attributes:
        report: Its words in parts, each with whether it differs from the other report's.
        pictures: Axial and coronal slice, as addresses.
    """

    report: list[tuple[str, bool]]
    pictures: list[str]


@dataclass(frozen=True)
class SameNoise:
    """The section's data.

    Attributes:
        sides: Before and after.
        differences: The same slices of the second less the first, as addresses.
        planes: Their names.
        full: The difference that is drawn in full colour.
        largest: Of any voxel; of intensities from 0 to 1, as ``full``.
        seed: Of the noise.
    """

    sides: list[Side]
    differences: list[str]
    planes: list[str]
    full: float
    largest: float
    seed: int


def same_noise_section(run: RunFolder) -> Section | None:
    """Return the section; None where the recipe asks for no such pair, or it was not made.

    Raises:
        UserError: A volume cannot be read.
    """
    folder = run.folders.pair
    told = PAIRS.read(folder / PAIR_FILE)
    if told is None or not all((folder / name).is_file() for name in told["images"]):
        return None
    reports: list[str] = told["reports"]
    volumes, spacing = _read([folder / name for name in told["images"]])
    change = volumes[1] - volumes[0]
    place = _strongest(change)
    axes = [2, 1] if change.shape[2] > 1 else [2]
    sides = [
        Side(_marked(report, other), [_grey(volume, axis, place, spacing) for axis in axes])
        for volume, report, other in zip(volumes, reports, reports[::-1], strict=True)
    ]
    data = SameNoise(
        sides,
        [_coloured(change, axis, place, spacing) for axis in axes],
        ["axial", "coronal"][: len(axes)],
        _FULL,
        float(np.abs(change).max()),
        int(told["seed"]),
    )
    return Section("same-noise", "Same noise, another report", "same_noise.html", data=data)


def _read(paths: list[Path]) -> tuple[list[Floats], list[float]]:
    images = [read_image(path) for path in paths]
    arrays = [np.mean([one.array for one in image.channels], axis=0) for image in images]
    low = min(float(array.min()) for array in arrays)
    span = max(float(array.max()) for array in arrays) - low or 1.0
    spacing = [float(mm) for mm in images[0].first.spacing_mm]
    return [((array - low) / span).astype(np.float32) for array in arrays], spacing


def _strongest(change: Floats) -> tuple[int, ...]:
    """Return the voxel about which the two volumes differ most."""
    # Not of a single voxel: noise differs in one, a finding in many that lie together.
    smooth = np.abs(gaussian_filter(change, _TOGETHER))
    return tuple(int(n) for n in np.unravel_index(int(smooth.argmax()), change.shape))


def _marked(report: str, other: str) -> list[tuple[str, bool]]:
    """Return a report in parts, each with whether the other report has others in its place."""
    ours, theirs = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (report, other))
    found: list[tuple[str, bool]] = []
    for kind, start, end, _, _ in SequenceMatcher(None, ours, theirs, False).get_opcodes():
        if start < end:
            found.append(("".join(ours[start:end]), kind != "equal"))
    return found


def _slice(array: Floats, axis: int, place: tuple[int, ...]) -> Floats:
    found: Floats = np.take(array, place[axis], axis=axis)
    return found


def _grey(array: Floats, axis: int, place: tuple[int, ...], spacing: list[float]) -> str:
    return data_uri(_drawn(_slice(array, axis, place), axis, spacing))


def _drawn(plane: Floats, axis: int, spacing: list[float]) -> NDArray[np.uint8]:
    across = [mm for k, mm in enumerate(spacing) if k != axis]
    pixel_mm = max(count * mm for count, mm in zip(plane.shape, across, strict=True)) / _EDGE
    return three_planes(plane, across, pixel_mm=pixel_mm)


def _coloured(change: Floats, axis: int, place: tuple[int, ...], spacing: list[float]) -> str:
    """Return a slice of the change: blue where the second volume is darker, red where brighter."""
    share = np.clip(_slice(change, axis, place) / _FULL, -1.0, 1.0)
    drawn = _drawn(((share + 1.0) / 2.0).astype(np.float32), axis, spacing).astype(np.float32)
    signed = drawn / 127.5 - 1.0
    darker, brighter = np.clip(-signed, 0, 1), np.clip(signed, 0, 1)
    colours = np.stack([1.0 - darker, 1.0 - darker - brighter, 1.0 - brighter], axis=-1)
    return data_uri((colours.clip(0, 1) * 255).astype(np.uint8))
