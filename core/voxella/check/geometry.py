"""Where an image lies, judged from its header alone, and what is wrong with the header."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxella.check.image_header import ImageHeader
from voxella.imaging.affine import affine_problem, shown_edges
from voxella.imaging.geometry import Grid
from voxella.imaging.problem import Problem
from voxella.limits import VOXELS

__all__ = ["Placement", "header_problems", "placement"]

_FINEST_MM, _COARSEST_MM = 0.05, 20.0
# Slices this much further apart than pixels tell the plane of acquisition.
_ANISOTROPY = 1.5
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Placement(Grid):
    """Where an image lies, its axes in the closest RAS order.

    Attributes:
        in_mm: False where the affine counts pixels: nothing says how large one is.
    """

    in_mm: bool = True

    @property
    def extent_mm(self) -> NDArray[np.float64]:
        """Return the field of view along R, A, S in mm."""
        return np.asarray(self.spacing_mm * self.shape, dtype=np.float64)

    @property
    def plane(self) -> str | None:
        """Return the plane of acquisition, None where voxels are nearly cubes."""
        if 1 in self.shape:
            return _PLANES[self.shape.index(1)]
        order = np.argsort(self.spacing_mm)
        edges = self.spacing_mm[order]
        return _PLANES[order[2]] if edges[2] > _ANISOTROPY * edges[1] else None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        told = {"shape": list(self.shape), "affine": np.round(self.affine, 6).tolist()}
        return told if self.in_mm else {**told, "in_mm": False}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Placement:
        """Return what :meth:`as_json` was made of, to a millionth of a mm."""
        r, a, s = (int(count) for count in data["shape"])
        affine = np.asarray(data["affine"], dtype=np.float64)
        return cls((r, a, s), affine, data.get("in_mm", True))


def placement(header: ImageHeader, colour: bool | None = False) -> Placement | None:
    """Return where the image lies, or None where its header does not say it.

    Arguments as of :func:`header_problems`.
    """
    if any(_shape_problems(header, colour)) or header.refused:
        return None
    if affine_problem(header.affine) is not None:
        return None
    shape = (*header.shape, 1, 1)[:3]
    orientation = nib.orientations.io_orientation(header.affine)
    back = nib.orientations.inv_ornt_aff(orientation, shape)
    turned = [0, 0, 0]
    for axis, target in enumerate(orientation[:, 0]):
        turned[int(target)] = shape[axis]
    return Placement((turned[0], turned[1], turned[2]), header.affine @ back, header.in_mm)


def header_problems(header: ImageHeader, colour: bool | None = False) -> list[Problem]:
    """Return code and message of everything that a header alone shows to be wrong.

    Args:
        header: As it stands in the file.
        colour: Whether red, green and blue are wanted, or one number; None: nobody has said, so
            pictures may be either, and scans have one number.
    """
    shape = list(_shape_problems(header, colour))
    if shape:
        # What an affine says of a time series or of no voxels is of no use.
        return shape
    size = list(_size_problems(header))
    affine = affine_problem(header.affine)
    wrong = header.refused or (() if affine is None else (affine,))
    if not wrong:
        return [*size, *_spacing_doubts(header), *_orientation_doubts(header)]
    # That a file is cut short may be why its header is odd.
    cut = "image.truncated" in dict(size)
    return [
        *size,
        *(problem for problem in wrong if not (cut and problem[0] == "image.unreadable")),
    ]


def _shape_problems(header: ImageHeader, colour: bool | None) -> Iterator[Problem]:
    size = " x ".join(str(count) for count in header.shape) or "no axis"
    wanted = header.colour and not header.in_mm if colour is None else colour
    if header.colour and not wanted:
        yield "image.colour", f"colour (RGB) or vector voxels ({size})"
    elif wanted and not header.colour:
        yield "image.grey", f"one number per voxel ({size})"
    elif header.complex:
        yield "image.complex", f"complex voxels ({size})"
    elif not header.shape or min(header.shape) < 1:
        yield "image.no-voxels", f"size {size}"
    elif len(header.shape) < 2 or any(count > 1 for count in header.shape[3:]):
        yield "image.not-3d", f"{len(header.shape)}D image ({size})"
    elif (count := math.prod(header.shape)) > VOXELS.most:
        yield (
            "image.impossible-size",
            f"the header claims {size} voxels, {header.claimed_bytes:,} bytes; "
            f"the file holds {header.held_bytes:,} ({VOXELS.remedy(count)})",
        )


def _size_problems(header: ImageHeader) -> Iterator[Problem]:
    claimed, held = header.claimed_bytes, header.held_bytes
    if claimed > held * header.expansion:
        yield (
            "image.truncated",
            f"the header claims {claimed:,} bytes of voxels, and {held:,} bytes of file cannot "
            "hold them",
        )
    elif header.expansion == 1 and header.offset_known and held > claimed:
        yield (
            "image.trailing-bytes",
            f"{held - claimed:,} bytes behind the {claimed:,} bytes of voxels",
        )


def _spacing_doubts(header: ImageHeader) -> Iterator[Problem]:
    if not header.in_mm:
        return
    edges = tuple(float(edge) for edge in np.linalg.norm(header.affine[:3, :3], axis=0))
    edges = edges[: len(header.shape)]
    if min(edges) < _FINEST_MM or max(edges) > _COARSEST_MM:
        yield "geometry.spacing-absurd", f"voxel edges {shown_edges(edges)} mm"


def _orientation_doubts(header: ImageHeader) -> Iterator[Problem]:
    shape = (*header.shape, 1, 1)[:3]
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.asarray(shape) - 1)
    spacing = np.linalg.norm(header.affine[:3, :3], axis=0)
    for name, other in header.others.items():
        if not np.isfinite(other).all():
            yield "geometry.qform-sform", f"the {name} is not finite"
            continue
        change = other - header.affine
        distance = float(np.linalg.norm(corners @ change[:3, :3].T + change[:3, 3], axis=1).max())
        # Half a voxel: less is a matter of rounding or of the voxel's corner or centre.
        if distance > 0.5 * float(spacing.min()):
            yield "geometry.qform-sform", f"a corner lies {distance:.1f} mm apart by the {name}"
