"""What an image file claims of itself, as it stands in the file."""

from __future__ import annotations

from dataclasses import dataclass, field

from voxella.imaging.problem import Problem
from voxella.imaging.volume import Affine

__all__ = ["HeaderProblem", "ImageHeader"]


class HeaderProblem(Exception):
    """A file of which not even the header can be had.

    Args:
        code: Of the catalogue.
        message: What was found; never the file's content.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


@dataclass(frozen=True)
class ImageHeader:
    """A header, as it stands in the file.

    Attributes:
        shape: Voxels along the file's axes, all of them.
        colour: Voxels are colours or vectors.
        complex: Voxels are complex numbers.
        voxel_bytes: Size of one voxel.
        held_bytes: Bytes of the file that can be voxels.
        expansion: Bytes of voxels per byte of the file, at most; 1 where they are not compressed.
        affine: ``(4, 4)`` voxel index to RAS+ mm, as preparing uses it; NaN where there is none.
        offset_known: False where the header tells to skip some of ``held_bytes``.
        stream_offset: Bytes before the voxels inside a compressed stream.
        refused: Why reading does not take the header; empty: it does.
        others: Further affines that the header holds, by name: ``qform`` beside the sform.
        in_mm: False where nothing says how large a voxel is, and the affine counts voxels.
    """

    shape: tuple[int, ...]
    colour: bool
    complex: bool
    voxel_bytes: int
    held_bytes: int
    expansion: int
    affine: Affine
    offset_known: bool = True
    stream_offset: int = 0
    refused: tuple[Problem, ...] = ()
    others: dict[str, Affine] = field(default_factory=dict)
    in_mm: bool = True

    @property
    def claimed_bytes(self) -> int:
        """Return the size of the voxels by the header; Python's integers do not overflow."""
        total = self.voxel_bytes
        for count in self.shape:
            total *= count
        return total
