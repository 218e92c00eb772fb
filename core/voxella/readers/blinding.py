"""Volumes as readers get them: written anew, so that nothing but voxels can tell what they are.

One grid and one header for all of a study, whole numbers of 8 bits between the same percentiles of
each volume's own values, no compression: files of one length, whatever is in them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from voxella.errors import UserError
from voxella.imaging.volume import read_image

__all__ = ["Blinded", "Grid", "blinded", "grid_of"]

# Between them values are spread from black to white. The same share of every volume is cut off.
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Grid:
    """What all volumes of a study have in common.

    Attributes:
        shape: Voxels along R, A, S.
        spacing_mm: Edges of a voxel as readers see it.
        colours: Whether there are red, green and blue.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    colours: bool

    @property
    def suffix(self) -> str:
        """Return the kind of file: a picture where there is one slice, else a volume."""
        return ".png" if self.shape[2] == 1 else ".nii"

    def told(self) -> str:
        """Return the voxels for a message."""
        return " x ".join(map(str, self.shape)) + (" in colours" if self.colours else "")


@dataclass(frozen=True)
class Blinded:
    """One volume of a study.

    Attributes:
        data: The file.
        spacing_mm: Of the volume itself, which the file does not say.
    """

    data: bytes
    spacing_mm: tuple[float, float, float]


def grid_of(path: Path) -> Grid:
    """Return the grid of an image file.

    Raises:
        ImageError: The file cannot be read.
        UserError: A volume is in colours.
    """
    image = read_image(path)
    r, a, s = image.first.array.shape
    spacing = tuple(round(float(edge), 3) for edge in image.first.spacing_mm)
    grid = Grid((r, a, s), (spacing[0], spacing[1], spacing[2]), image.is_colour)
    if grid.colours and s > 1:
        raise UserError(
            f"{path}: a volume in colours cannot be blinded", expected="grey, or one slice"
        )
    return grid


def blinded(path: Path, grid: Grid) -> Blinded:
    """Return an image as a reader gets it.

    Args:
        path: The image.
        grid: Of the study.

    Raises:
        ImageError: The file cannot be read.
        UserError: It lies on another grid: that would tell what it is.
    """
    own = grid_of(path)
    if (own.shape, own.colours) != (grid.shape, grid.colours):
        raise UserError(
            f"{path} has {own.told()} voxels and others of the study {grid.told()}: its size "
            "would tell what it is",
            expected="real and synthetic cases on one grid",
            remedy="--real RUN/prepared, which has the grid of the run's samples",
        )
    image = read_image(path)
    finite = np.nan_to_num(image.array, posinf=0.0, neginf=0.0)
    low, high = (0.0, image.white) if grid.colours else np.percentile(finite, _PERCENTILES)
    share = np.clip((finite - low) / max(high - low, 1e-9), 0.0, 1.0)
    coded = np.rint(share * 255).astype(np.uint8)
    data = _picture(coded) if grid.suffix == ".png" else _volume(coded[0], grid)
    return Blinded(data, own.spacing_mm)


def _volume(voxels: NDArray[np.uint8], grid: Grid) -> bytes:
    affine = np.diag([*grid.spacing_mm, 1.0])
    affine[:3, 3] = [
        -edge * (n - 1) / 2 for edge, n in zip(grid.spacing_mm, grid.shape, strict=True)
    ]
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.header["cal_min"], image.header["cal_max"] = 0, 255
    return bytes(image.to_bytes())


def _picture(coded: NDArray[np.uint8]) -> bytes:
    # The patient's right to the left, anterior to the top.
    upright = coded[..., 0].transpose(2, 1, 0)[::-1, ::-1]
    pixels = upright if upright.shape[2] > 1 else upright[..., 0]
    held = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(held, format="PNG", compress_level=0)
    return held.getvalue()
