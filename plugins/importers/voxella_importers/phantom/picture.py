"""A picture of phantom cases: ``python -m voxella_importers.phantom.picture DATASET OUT.png``.

One row a case: axial through the lesion (through the gland where there is none), then coronal and
sagittal. Radiological convention: the patient's right is on the left of the picture.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.files import atomic_path
from voxella_importers.phantom.truth import Truth, read_truth

__all__ = ["montage"]

_PIXELS_PER_MM = 1.6
_CAPTION = 18
_MARK = (255, 210, 60)


def montage(folder: Path, target: Path, *, count: int = 4, columns: int = 2) -> Path:
    """Write a picture of the first cases of a phantom data set, half of them with lesions.

    Args:
        folder: The data set.
        target: PNG to write.
        count: Cases shown.
        columns: Cases beside each other.

    Raises:
        UserError: When ``folder`` holds no phantom.
    """
    manifest = Manifest.read(folder)
    chosen = _choose(manifest, count)
    rows = [_row(manifest, case) for case in chosen]
    width = max(row.width for row in rows)
    height = max(row.height for row in rows)
    lines = -(-len(rows) // columns)
    page = Image.new("RGB", (width * columns, height * lines))
    for number, row in enumerate(rows):
        page.paste(row, (width * (number % columns), height * (number // columns)))
    with atomic_path(target) as temporary:
        page.save(temporary, optimize=True)
    return target


def _choose(manifest: Manifest, count: int) -> list[Case]:
    """Return as many cases with a conspicuous lesion as without one, in turn."""
    clear: list[Case] = []
    suspicious: list[Case] = []
    for case in manifest:
        if case.truth is None:
            raise UserError(f"case {case.id} of {manifest.folder} has no truth: not a phantom")
        pirads = read_truth(manifest.folder / case.truth).pirads
        if pirads >= 4:
            suspicious.append(case)
        elif pirads == 1:
            clear.append(case)
    pairs = zip(suspicious, clear, strict=False)
    return [case for pair in pairs for case in pair][:count] or list(manifest)[:count]


def _row(manifest: Manifest, case: Case) -> Image.Image:
    """Draw one case: caption, axial, coronal, sagittal."""
    scan = nib.load(manifest.image_path(case, "t2w"))
    truth = read_truth(manifest.folder / str(case.truth))
    voxels = np.asarray(scan.dataobj, dtype=np.float32)
    grey = np.clip(voxels / np.percentile(voxels, 99.5) * 255, 0, 255).astype(np.uint8)
    point = truth.lesions[0].centre_mm if truth.lesions else truth.gland.centre_mm
    index = np.linalg.inv(scan.affine) @ [*point, 1.0]
    centre = [int(np.clip(round(v), 0, n - 1)) for v, n in zip(index[:3], grey.shape, strict=True)]
    planes = [_plane(grey, axis, centre, scan.header.get_zooms()) for axis in (2, 1, 0)]
    if truth.lesions:
        _mark(planes[0], grey, centre, scan.header.get_zooms(), truth.lesions[0].diameter_mm)
    height = max(plane.height for plane in planes)
    row = Image.new("RGB", (sum(plane.width + 4 for plane in planes), height + _CAPTION + 4))
    ImageDraw.Draw(row).text((4, 3), _caption(truth), fill=(220, 220, 220))
    left = 0
    for plane in planes:
        row.paste(plane, (left, _CAPTION + (height - plane.height) // 2))
        left += plane.width + 4
    return row


def _plane(
    grey: NDArray[np.uint8], axis: int, centre: Sequence[int], spacing: Sequence[float]
) -> Image.Image:
    """Return one slice at a common scale, right to the left and front or head up."""
    across, upright = (n for n in range(3) if n != axis)
    pixels = np.take(grey, centre[axis], axis=axis)[::-1, ::-1].T
    size = [round(grey.shape[n] * spacing[n] * _PIXELS_PER_MM) for n in (across, upright)]
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize(
        (size[0], size[1]), Image.Resampling.BICUBIC
    )
    return picture.convert("RGB")


def _mark(
    plane: Image.Image,
    grey: NDArray[np.uint8],
    centre: Sequence[int],
    spacing: Sequence[float],
    diameter_mm: float,
) -> None:
    """Draw the four corners of a square about the lesion."""
    x, y = ((grey.shape[n] - 0.5 - centre[n]) * float(spacing[n]) * _PIXELS_PER_MM for n in (0, 1))
    reach = (diameter_mm / 2 + 4.0) * _PIXELS_PER_MM
    draw = ImageDraw.Draw(plane)
    for right in (-1, 1):
        for down in (-1, 1):
            corner = (x + right * reach, y + down * reach)
            draw.line([corner, (corner[0] - right * 8, corner[1])], fill=_MARK, width=2)
            draw.line([corner, (corner[0], corner[1] - down * 8)], fill=_MARK, width=2)


def _caption(truth: Truth) -> str:
    head = f"{truth.id}   {truth.gland.volume_ml:.0f} ml   PI-RADS {truth.pirads}"
    if not truth.lesions:
        return f"{head}   no lesion"
    first = truth.lesions[0]
    place = f"{first.side} {first.zone} zone, {first.level}, {first.diameter_mm:.0f} mm"
    more = f" (and {len(truth.lesions) - 1} more)" if len(truth.lesions) > 1 else ""
    return f"{head}   {place}{more}"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m voxella_importers.phantom.picture DATASET OUT.png")
    try:
        print(montage(Path(sys.argv[1]), Path(sys.argv[2])))
    except UserError as error:
        sys.exit(str(error))
