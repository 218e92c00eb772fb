"""One case on one grid: its channels, and its mask, as nnU-Net reads them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxella.data.mask_grids import Grid, off_grid
from voxella.errors import UserError
from voxella.imaging.volume import Affine, Volume, read_image, write_volume
from voxella_exporters.nnunet.labels import Labels, mask_values
from voxella_exporters.voxels import write_anew

__all__ = ["ENDING", "CaseFiles", "case_problems", "write_case"]

ENDING = ".nii.gz"
# How messages call a case's mask, whatever its name is.
MASK = "the mask"


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case.

    Attributes:
        case: Its id.
        channels: File by sequence, in the order of the channels.
        mask: Its mask, or None.
    """

    case: str
    channels: Mapping[str, Path]
    mask: Path | None

    def images(self) -> Iterator[tuple[str, Path]]:
        """Yield name and file of the channels, then of the mask."""
        yield from self.channels.items()
        if self.mask is not None:
            yield MASK, self.mask


def case_problems(files: CaseFiles, tolerance_mm: float) -> tuple[list[str], set[int]]:
    """Return all that nnU-Net would refuse in a case, and the values of its mask without 0.

    Its rules (``verify_dataset_integrity`` of nnU-Net 2.8): all channels and the mask have one
    number of voxels and one spacing, and nothing is NaN. Pictures and colours have no place in a
    volume's channels.

    Args:
        files: Of the case.
        tolerance_mm: How far voxels of two images may lie apart that count as one grid.
    """
    problems: list[str] = []
    values: set[int] = set()
    first: tuple[str, Volume] | None = None
    for name, path in files.images():
        try:
            image = read_image(path)
        except UserError as error:
            problems.append(f"{name}: {error.problem.removeprefix(f'{path}: ')}")
            continue
        if not image.in_mm or image.is_colour:
            kind = "is in colours" if image.is_colour else "is a picture without millimetres"
            problems.append(f"{name} {kind}, and channels of nnU-Net are grey volumes")
            continue
        volume = image.first
        if name == MASK:
            found = mask_values(volume.array)
            values = found if isinstance(found, set) else set()
            problems += [] if isinstance(found, set) else [f"{name} {found}"]
        elif not np.isfinite(volume.array).all():
            problems.append(f"{name} holds NaN or infinity")
        if first is None:
            first = name, volume
        elif (apart := off_grid(_grid(volume), _grid(first[1]), tolerance_mm)) is not None:
            problems.append(f"{name} is not on the grid of {first[0]}: {apart}")
    return problems, values


def write_case(files: CaseFiles, out: Path, part: str, labels: Labels | None) -> None:
    """Write a case that has no problem, all of it on the grid of its first channel.

    Args:
        files: Of the case.
        out: The data set of nnU-Net.
        part: ``Tr`` or ``Ts``.
        labels: What the mask's values become; None where there is no mask.
    """
    affine: Affine | None = None
    for number, path in enumerate(files.channels.values()):
        image = read_image(path)
        affine = image.first.affine if affine is None else affine
        write_anew(out / f"images{part}" / f"{files.case}_{number:04d}", image, affine)
    if files.mask is not None and labels is not None and affine is not None:
        mask = read_image(files.mask).first.array.astype(np.int64)
        write_volume(out / f"labels{part}" / f"{files.case}{ENDING}", labels.of(mask), affine)


def _grid(volume: Volume) -> Grid:
    return volume.array.shape, volume.affine
