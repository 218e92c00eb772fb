"""Cases beside their reconstructions, as one picture, grey or in colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from voxella.imaging.montage import montage

__all__ = ["Column", "reconstruction_picture"]

# White in the error row is an error of 1 / _ERROR_GAIN of the intensity range.
_ERROR_GAIN = 4.0
_PANEL_VOXELS = 128  # a volume with shorter edges is enlarged, or there is little to see


@dataclass(frozen=True)
class Column:
    """One case of a picture.

    Attributes:
        case_id: The case.
        caption: Of its reconstruction.
        image: ``(C, *spatial)``, one channel or three in colours.
        reconstruction: Like ``image``.
        spacing_mm: Of a voxel, along each axis.
    """

    case_id: str
    caption: str
    image: Tensor
    reconstruction: Tensor
    spacing_mm: Sequence[float]

    def rows(self) -> list[tuple[Tensor, list[float]]]:
        """Return original, reconstruction and error, each with its spacing."""
        image, reconstruction = self.image, self.reconstruction
        error = ((image - reconstruction).abs() * _ERROR_GAIN).clamp(0, 1)
        zoom = max(1, round(_PANEL_VOXELS / max(error.shape[1:])))
        spacing = [mm / zoom for mm in self.spacing_mm[: error.ndim - 1]]
        return [(_enlarged(row, zoom), spacing) for row in (image, reconstruction, error)]


def reconstruction_picture(columns: Sequence[Column]) -> NDArray[np.uint8]:
    """Return original, reconstruction and error of cases, a column each.

    It is uint8 ``(H, W)``, in colours ``(H, W, 3)``.
    """
    captions = [
        *(column.case_id for column in columns),
        *(column.caption for column in columns),
        *(f"error x {_ERROR_GAIN:g}" for _ in columns),
    ]
    rows = [column.rows() for column in columns]
    cells = [cell for row in zip(*rows, strict=True) for cell in row]
    return montage(
        [volume.numpy() for volume, _ in cells],
        [spacing for _, spacing in cells],
        labels=captions,
        columns=len(columns),
    )


def _enlarged(image: Tensor, zoom: int) -> Tensor:
    """Return ``(C, *spatial)`` as ``(C, R, A, S)``, every voxel repeated along its axes."""
    for axis in range(1, image.ndim):
        image = image.repeat_interleave(zoom, dim=axis)
    return image.reshape(*image.shape, *[1] * (4 - image.ndim))
