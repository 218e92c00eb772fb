"""Whole volumes inside a page, for a viewer that needs WebGL: compressed NIfTI of 8 bits.

A page that is asked for them (``voxella report --viewer``) still holds the slices: a browser
without WebGL, and paper, show those.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxella.report.pairs import Shown

__all__ = ["VOLUMES", "WholePair", "viewer_scripts", "whole_pair"]

# Bytes of all volumes in a page; with the viewer's own file, 2.4 MB, a page stays below 30 MB.
VOLUMES = 16_000_000
_LONGEST_SHRUNK = 32  # voxels along an axis that are not halved any more


@dataclass(frozen=True)
class WholePair:
    """A pair of volumes as a page holds them.

    Attributes:
        real: Base64 of a compressed NIfTI file; None without a counterpart.
        synthetic: The same.
        shrunk: Whether voxels were averaged to fit.
    """

    real: str | None
    synthetic: str
    shrunk: bool


def whole_pair(real: Shown | None, synthetic: Shown, allowance: int) -> WholePair | None:
    """Return a pair's volumes, averaged over 2 voxels along an axis until they fit.

    Args:
        real: None: there is no counterpart.
        synthetic: Beside it.
        allowance: Bytes for both.

    Returns:
        None where there is nothing to turn: one slice, or colours.
    """
    if synthetic.shape[2] == 1 or synthetic.array.ndim > 3:
        return None
    sides = [side for side in (real, synthetic) if side is not None]
    shrunk = False
    while True:
        coded = [_coded(side) for side in sides]
        smaller = [_halved(side) for side in sides]
        if sum(map(len, coded)) <= allowance or any(side is None for side in smaller):
            break
        sides, shrunk = [side for side in smaller if side is not None], True
    return WholePair(coded[0] if real is not None else None, coded[-1], shrunk)


def viewer_scripts() -> list[str]:
    """Return the viewer's files in their order, those that ``voxella view`` serves."""
    static = files("voxella.view").joinpath("static")
    return [static.joinpath(n).read_text(encoding="utf-8") for n in ("niivue.js", "planes.js")]


def _coded(side: Shown) -> str:
    voxels = np.rint(np.clip(side.array, 0, 1) * 255).astype(np.uint8)
    affine = np.diag([*side.spacing_mm, 1.0])
    affine[:3, 3] = _origin(side.spacing_mm, voxels.shape)
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    # Without a time in it, so that the same run gives the same page.
    return base64.b64encode(gzip.compress(image.to_bytes(), mtime=0)).decode("ascii")


def _origin(spacing_mm: Sequence[float], shape: Sequence[int]) -> list[float]:
    return [-edge * (count - 1) / 2 for edge, count in zip(spacing_mm, shape, strict=True)]


def _halved(side: Shown) -> Shown | None:
    """Average over 2 voxels along the axis of the finest spacing; None where all are short."""
    long = [axis for axis in range(3) if side.array.shape[axis] > _LONGEST_SHRUNK]
    if not long:
        return None
    axis = min(long, key=lambda axis: side.spacing_mm[axis])
    even = side.array.shape[axis] // 2 * 2
    whole: NDArray[np.float32] = np.take(side.array, np.arange(even), axis=axis)
    shape = [*whole.shape[:axis], even // 2, 2, *whole.shape[axis + 1 :]]
    r, a, s = (edge * 2 if axis == place else edge for place, edge in enumerate(side.spacing_mm))
    return Shown(whole.reshape(shape).mean(axis=axis + 1), (r, a, s))
