"""One slice of a scan: a file of its own, or one frame of a multi-frame file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from voxella_importers.dicom.values import (
    b_value,
    first_item,
    frame_b_value,
    integer,
    number,
    numbers,
    text,
    words,
)

__all__ = ["DIFFERENCES", "Slice", "frames_of", "slice_of"]

# Field -> what several images at one position differ in, as it is told. Values are only counted.
DIFFERENCES: dict[str, str] = {
    "EchoTime": "echo times",
    "TemporalPositionIdentifier": "time points",
    "TriggerTime": "time points",
    "DiffusionGradientOrientation": "diffusion directions",
    "kind": "kinds of image (magnitude, phase, ...)",
    "AcquisitionNumber": "acquisitions",
    "AcquisitionTime": "time points",
    "ContentTime": "time points",
}


@dataclass(frozen=True, slots=True)
class Slice:
    """Where one slice lies and what it is an image of.

    Attributes:
        path: Its file.
        frame: Number in a multi-frame file, from 0; None for a file of one slice.
        uid: Keyed hash of the image's identifier.
        position: Centre of the first voxel, LPS+ mm.
        orientation: Unit vectors along a row (first three) and down a column, LPS+.
        spacing: Distance between rows and between columns, mm.
        size: Rows and columns.
        thickness: SliceThickness in mm, where it is stated.
        b_value: In s/mm2, of a diffusion image.
        number: InstanceNumber.
        differences: What :data:`DIFFERENCES` says, by field.
    """

    path: Path
    frame: int | None
    uid: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    size: tuple[int, int]
    thickness: float | None
    b_value: float | None
    number: int | None
    differences: dict[str, str] = field(default_factory=dict)


def slice_of(path: Path, dataset: Dataset, uid: str) -> Slice | None:
    """Return a single-frame file's slice, or None when its geometry is not all there."""
    position = numbers(dataset, "ImagePositionPatient", 3)
    orientation = numbers(dataset, "ImageOrientationPatient", 6)
    spacing = numbers(dataset, "PixelSpacing", 2)
    if not (position and orientation and spacing and min(spacing) > 0):
        return None
    differences = {name: text(dataset, name) for name in DIFFERENCES if name != "kind"}
    return Slice(
        path=path,
        frame=None,
        uid=uid,
        position=position,
        orientation=orientation,
        spacing=spacing,
        size=_size(dataset),
        thickness=number(dataset, "SliceThickness"),
        b_value=b_value(dataset),
        number=integer(dataset, "InstanceNumber"),
        differences={**differences, "kind": "/".join(words(dataset, "ImageType"))},
    )


def frames_of(path: Path, dataset: Dataset, uid: str) -> list[Slice] | str:
    """Return a multi-frame file's slices in stored order, or what keeps it from being read."""
    shared = first_item(dataset, "SharedFunctionalGroupsSequence") or Dataset()
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if len(frames) != integer(dataset, "NumberOfFrames"):
        return "multi-frame without the geometry of each frame"
    if len({_rescale(frame, shared) for frame in frames}) > 1:
        # SimpleITK takes no notice of them (measured with 2.5).
        return "multi-frame with another rescale slope in each frame"
    found = [_frame(path, dataset, uid, index, shared) for index in range(len(frames))]
    whole = [one for one in found if one is not None]
    return whole if len(whole) == len(found) else "multi-frame without the geometry of each frame"


def _frame(path: Path, dataset: Dataset, uid: str, index: int, shared: Dataset) -> Slice | None:
    frame = dataset["PerFrameFunctionalGroupsSequence"][index]
    position = _group(frame, shared, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = _group(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _group(frame, shared, "PixelMeasuresSequence", "PixelSpacing", 2)
    if not (position and orientation and spacing and min(spacing) > 0):
        return None
    content = first_item(frame, "FrameContentSequence") or Dataset()
    time_point = text(content, "TemporalPositionIndex")
    thickness = _group(frame, shared, "PixelMeasuresSequence", "SliceThickness", 1)
    return Slice(
        path=path,
        frame=index,
        uid=f"{uid}/{index}",
        position=position,
        orientation=orientation,
        spacing=spacing,
        size=_size(dataset),
        thickness=thickness[0] if thickness else None,
        b_value=frame_b_value(frame, shared),
        number=None,
        differences={"TemporalPositionIdentifier": time_point},
    )


def _group(
    frame: Dataset, shared: Dataset, group: str, keyword: str, count: int
) -> tuple[float, ...]:
    """Return a functional group's numbers, the frame's own before the shared ones."""
    for owner in (frame, shared):
        item = first_item(owner, group)
        found = () if item is None else numbers(item, keyword, count)
        if found:
            return found
    return ()


def _rescale(frame: Dataset, shared: Dataset) -> tuple[tuple[float, ...], ...]:
    names = ("RescaleSlope", "RescaleIntercept")
    return tuple(_group(frame, shared, "PixelValueTransformationSequence", n, 1) for n in names)


def _size(dataset: Dataset) -> tuple[int, int]:
    return integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
