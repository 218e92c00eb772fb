"""A case as an entry of the released CCELLA code's lists and as a row of its spreadsheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel as nib

from voxella.case import Case
from voxella.imaging.headers import is_raster
from voxella.imaging.nifti_header import is_rgb_vector
from voxella.machine import raise_if_machine
from voxella_importers.ccella.lists import KEYS

__all__ = ["entry_of", "folder_of", "image_name", "row_of", "volume_problem", "with_features"]


def folder_of(case: Case) -> str:
    """Return what the released code knows a case by: its id, or what it was imported under."""
    folder = PurePosixPath(str(case.extra.get("folder", case.id)))
    safe = not folder.is_absolute() and ".." not in folder.parts
    return folder.as_posix() if safe else case.id


def image_name(case: Case, sequence: str) -> str:
    """Return an image's path as the lists have it, relative to the folder of images."""
    return f"{folder_of(case)}/{KEYS[sequence]}.nii.gz"


def volume_problem(name: str, path: Path) -> str | None:
    """Return why the released code cannot read an image that is there; None: nothing is known.

    It reads grey volumes as ``.nii.gz``: three axes, one number a voxel.
    """
    if is_raster(path):
        return f"{name} is a picture (PNG, JPEG, TIFF), and the released code reads volumes only"
    if not path.name.endswith(".nii.gz"):
        return f"{name} is no .nii.gz file, and the released code reads no other"
    try:
        header = nib.load(path).header
    except Exception as error:  # nibabel raises whatever a damaged header brings about
        raise_if_machine(error, path)
        return f"{name}: its header cannot be read"
    shape = tuple(int(count) for count in header.get_data_shape())
    if header.get_data_dtype().fields is not None or is_rgb_vector(header, shape):
        return f"{name} is in colours, and the released code reads grey volumes only"
    if len(shape) < 3 or shape[2] == 1:
        return f"{name} is a single slice, and the released code reads volumes only"
    return None


def entry_of(
    case: Case,
    *,
    sequences: Sequence[str],
    spacing_mm: Sequence[float],
    positive: bool,
    text: str,
    name: str,
) -> dict[str, Any]:
    """Return a case's entry.

    Args:
        case: The case.
        sequences: Those of its images that are exported.
        spacing_mm: Of their voxels, in the files' axis order.
        positive: Its class.
        text: Its report, or "" where there is none or it is not to be told.
        name: ``dataset``, where the case does not say it itself.
    """
    return {
        **{KEYS[sequence]: f"./{image_name(case, sequence)}" for sequence in sequences},
        "dataset": case.extra.get("dataset", name),
        "folder": folder_of(case),
        "pirads": [int(not positive), int(positive)],
        "spacing": [float(step) for step in spacing_mm],
        "text": text,
        "text_isnull": int(not text),
    }


def with_features(entry: dict[str, Any], file: str, *, is_null: bool) -> dict[str, Any]:
    """Return an entry in whose ``text`` stands a file of token features."""
    return {**entry, "text": file, "text_isnull": int(is_null)}


def row_of(case: Case, positive: bool) -> list[str | int | None]:
    """Return a case's row under the columns of :data:`voxella_importers.ccella.sheet.COLUMNS`.

    The released code takes PosPIRADS for the label, and PosISUP where PosPIRADS is empty, so that
    is where the label goes, whatever else is known.
    """
    isup = case.extra.get("isup")
    by_isup = case.label_source == "isup"
    known = int(isup >= 2) if isinstance(isup, int) else None
    return [
        folder_of(case),
        None if by_isup else int(positive),
        int(positive) if by_isup else known,
        case.split,
        case.group,
        case.label_source,
    ]
