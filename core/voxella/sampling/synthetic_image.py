"""One generated image in memory: its voxels, where they lie, and what it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxella.files import write_json_atomic
from voxella.imaging.volume import Affine, write_volume

__all__ = ["SyntheticImage"]


@dataclass(frozen=True)
class SyntheticImage:
    """One generated image.

    Attributes:
        name: Names it, and with the seed decides its noise.
        array: ``(C, R, A, S)`` in [0, 1], float32.
        affine: ``(4, 4)`` voxel index to RAS+ mm, the volume's centre at the origin.
        sequences: Of the channels, in order.
        provenance: What it was made of: model, seed, sampler, label, conditions, versions; no text.
    """

    name: str
    array: NDArray[np.float32]
    affine: Affine
    sequences: tuple[str, ...]
    provenance: dict[str, Any]

    def save(self, folder: Path | str) -> list[Path]:
        """Write ``NAME_SEQUENCE.nii.gz`` for every sequence, and ``NAME.json``; return the paths.

        Args:
            folder: Is made where it is not there.
        """
        out = Path(folder)
        written = [
            write_volume(out / f"{self.name}_{sequence}.nii.gz", channel, self.affine)
            for sequence, channel in zip(self.sequences, self.array, strict=True)
        ]
        return [*written, write_json_atomic(out / f"{self.name}.json", self.provenance)]
