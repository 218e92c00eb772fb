"""Small MR files for tests: written by pydicom, with names and dates wherever DICOM has room."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
# Tilted by an angle whose sine and cosine are 0.6 and 0.8.
OBLIQUE = (1.0, 0.0, 0.0, 0.0, 0.8, -0.6)
ORIGIN = (-12.5, -20.25, 7.75)
SPACING = (0.7, 0.5)
SIZE = (6, 5)
GAP = 3.0


def short(values: Iterable[float]) -> list[str]:
    """Decimal strings of at most 16 characters, as DICOM wants them."""
    return [f"{value:.9g}" for value in values]


def normal(orientation: Iterable[float]) -> NDArray[np.float64]:
    row, column = np.array(list(orientation)).reshape(2, 3)
    return np.cross(row, column)


def uid(*parts: object) -> str:
    """The same parts give the same identifier."""
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return f"1.2.826.0.1.{int(digest[:24], 16)}"


def pixels(index: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint16]:
    """No two voxels of a series have one value."""
    rows, columns = size
    return (np.arange(rows * columns).reshape(size) + 100 * index).astype(np.uint16)


def image(index: int = 0, *, study: str = "study", series: int = 4, **fields: Any) -> Dataset:
    """One slice of an axial T2 series; ``fields`` are DICOM keywords, None takes one out."""
    orientation = fields.pop("orientation", AXIAL)
    size, spacing = fields.pop("size", SIZE), fields.pop("spacing", SPACING)
    gap, origin = fields.pop("gap", GAP), np.array(fields.pop("origin", ORIGIN))
    voxels = fields.pop("voxels", None)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(fields.pop("syntax", ExplicitVRLittleEndian))
    values: dict[str, Any] = {
        "SOPClassUID": MR,
        "SOPInstanceUID": uid(study, series, index, *fields.pop("vary", ())),
        "StudyInstanceUID": uid(study),
        "SeriesInstanceUID": uid(study, series),
        "PatientID": f"patient-{study}",
        "AccessionNumber": f"accession-{study}",
        "Modality": "MR",
        "Manufacturer": "MAKER",
        "SeriesNumber": series,
        "SeriesDescription": "t2_tse_tra",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM"],
        "InstanceNumber": index + 1,
        "ImageOrientationPatient": short(orientation),
        "ImagePositionPatient": short(origin + normal(orientation) * gap * index),
        "PixelSpacing": short(spacing),
        "SliceThickness": "3",
        "Rows": size[0],
        "Columns": size[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": (pixels(index, size) if voxels is None else voxels).tobytes(),
        **fields,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def save(path: Path, dataset: Dataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", MR)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", uid(path))
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path, count: int = 5, *, skip: tuple[int, ...] = (), **fields: Any
) -> list[Path]:
    """A series of its own folder; a field that is a callable is asked for each slice's value."""
    named = f"{fields.get('study', 'study')}-{fields.get('series', 4)}"
    paths: list[Path] = []
    for index in range(count):
        if index not in skip:
            own = {k: v(index) if callable(v) else v for k, v in fields.items()}
            paths.append(save(folder / named / f"{index:03d}.dcm", image(index, **own)))
    return paths


def item(**fields: Any) -> list[Dataset]:
    """A sequence of one item."""
    dataset = Dataset()
    for keyword, value in fields.items():
        setattr(dataset, keyword, value)
    return [dataset]


def enhanced(
    positions: Iterable[int] = range(5),
    *,
    b_values: Mapping[int, float] | None = None,
    slopes: Mapping[int, float] | None = None,
    geometry: bool = True,
    **fields: Any,
) -> Dataset:
    """A multi-frame image; frame i lies at ``positions[i]`` gaps from the origin."""
    places = list(positions)
    frames = []
    for index, place in enumerate(places):
        frame = Dataset()
        position = np.array(ORIGIN) + normal(OBLIQUE) * GAP * place
        if geometry:
            frame.PlanePositionSequence = item(ImagePositionPatient=short(position))
        if b_values:
            frame.MRDiffusionSequence = item(DiffusionBValue=b_values[index])
        if slopes:
            frame.PixelValueTransformationSequence = item(
                RescaleSlope=short([slopes[index]])[0], RescaleIntercept="0", RescaleType="US"
            )
        frames.append(frame)
    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=short(OBLIQUE))
    shared.PixelMeasuresSequence = item(PixelSpacing=short(SPACING), SliceThickness="3")
    taken = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness")
    absent: dict[str, Any] = dict.fromkeys(taken)
    return image(
        **absent,
        SOPClassUID=fields.pop("SOPClassUID", ENHANCED),
        NumberOfFrames=len(places),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
        voxels=np.stack([pixels(place) for place in places]),
        **fields,
    )


def assert_same_voxels(paths: Iterable[Path], nifti: Path) -> None:
    """Every pixel, as pydicom reads it, lies in the NIfTI where its DICOM header puts it.

    DICOM PS3.3 C.7.6.2.1.1: position + row * column spacing * column index
    + column * row spacing * row index, in LPS mm; NIfTI counts RAS mm.
    """
    volume = nib.load(nifti)
    voxels = np.asarray(volume.dataobj)
    to_index = np.linalg.inv(volume.affine)
    count = 0
    for path in paths:
        dataset = dcmread(path)
        slope = float(dataset.get("RescaleSlope", 1))
        stored = dataset.pixel_array.astype(np.float64) * slope
        values = stored + float(dataset.get("RescaleIntercept", 0))
        row, column = np.array(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3)
        between_rows, between_columns = (float(value) for value in dataset.PixelSpacing)
        r, c = np.indices(values.shape)[..., None]
        lps = (
            np.array(dataset.ImagePositionPatient, dtype=float)
            + c * between_columns * row
            + r * between_rows * column
        )
        found = (lps * [-1, -1, 1]) @ to_index[:3, :3].T + to_index[:3, 3]
        index = np.round(found).astype(int)
        np.testing.assert_allclose(found, index, atol=2e-3)
        np.testing.assert_allclose(voxels[tuple(np.moveaxis(index, -1, 0))], values, rtol=1e-6)
        count += values.size
    assert voxels.size == count
