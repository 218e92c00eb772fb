"""One generated image in memory: its voxels, where they lie, and what it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxella.files import write_json_atomic
from voxella.imaging.volume import Affine
from voxella.imaging.write import is_picture, write_image

__all__ = ["SyntheticImage"]


@dataclass(frozen=True)
class SyntheticImage:
    """One generated image.

    Attributes:
        name: Names it, and with the seed decides its noise.
        array: ``(C, R, A, S)`` or ``(C, R, A)`` in [0, 1], float32.
        affine: ``(4, 4)`` voxel index to RAS+ mm, the centre at the origin; of an image without
            spacing in mm a voxel counts as 1.
        channels: Which of them each sequence has: one, or red, green and blue.
        spacing_mm: Edges of a voxel; None where the model was trained without.
        provenance: What it was made of: model, seed, sampler, label, conditions, versions; no text.
    """

    name: str
    array: NDArray[np.float32]
    affine: Affine
    channels: dict[str, slice]
    spacing_mm: tuple[float, ...] | None
    provenance: dict[str, Any]

    @property
    def sequences(self) -> tuple[str, ...]:
        """Return the names of the sequences, in order."""
        return tuple(self.channels)

    def save(self, folder: Path | str) -> list[Path]:
        """Write ``NAME_SEQUENCE.nii.gz`` for every sequence, and ``NAME.json``; return the paths.

        Images of two axes without spacing in mm are written as ``NAME_SEQUENCE.png``.

        Args:
            folder: Is made where it is not there.
        """
        out = Path(folder)
        suffix = ".png" if is_picture(self.array, self.spacing_mm) else ".nii.gz"
        written = [
            write_image(out / f"{self.name}_{sequence}{suffix}", self.array[channels], self.affine)
            for sequence, channels in self.channels.items()
        ]
        return [*written, write_json_atomic(out / f"{self.name}.json", self.provenance)]
