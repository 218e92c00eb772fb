"""The header of a derived MR image: PS3.3, table A.4-1, and what says that nobody was scanned.

Attributes of type 2, which have to be there and may be empty, are empty where nothing is known: no
name, date, place or person of any source reaches a file.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from voxella_exporters.dicom.slices import Slices
from voxella_exporters.dicom.stored import Stored

__all__ = ["Series", "header", "image", "patient_id", "uid"]

# Of a text in DICOM (VR LO), where a backslash would part two values.
_LONGEST = 64
_PLAIN = re.compile(r"[ -\[\]-~]{1,64}")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://voxella.invalid/dicom")
_EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
    *("PatientPosition", "PositionReferenceIndicator", "Laterality"),
    *("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"),
    *("InversionTime", "ContentDate", "ContentTime"),
)


@dataclass(frozen=True)
class Series:
    """What all images of a series say.

    Attributes:
        patient: PatientID, a pseudonym.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        frame: FrameOfReferenceUID; one for all series that lie in one space.
        number: SeriesNumber, from 1.
        description: SeriesDescription.
        synthetic: Whether a model made it.
        model: What identifies the model; "" where there is none.
        derivation: How the image was made, without a word of any text.
        window: Values that are shown black and white.
        unit: RescaleType: the unit of the values, ``US`` where they have none.
    """

    patient: str
    study: str
    series: str
    frame: str
    number: int
    description: str
    synthetic: bool
    model: str
    derivation: str
    window: tuple[float, float]
    unit: str


def uid(*parts: object) -> str:
    """Return the unique identifier of some parts: ``2.25.`` and a UUID, as PS3.5 B.2 has it."""
    told = json.dumps(parts, ensure_ascii=False, default=str)
    return f"2.25.{uuid.uuid5(_NAMESPACE, told).int}"


def patient_id(group: str) -> str:
    """Return a group's pseudonym as PatientID; one that does not fit in there is hashed."""
    if _PLAIN.fullmatch(group):
        return group
    return f"synthetic-{hashlib.sha256(group.encode()).hexdigest()[:32]}"


def header(told: Series, slices: Slices, stored: Stored, version: str) -> Dataset:
    """Return all that the images of a series have in common.

    Args:
        told: What they say.
        slices: Where they lie.
        stored: What their pixels mean.
        version: Of this software.
    """
    data = Dataset()
    for keyword in _EMPTY:
        setattr(data, keyword, None)
    low, high = told.window
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["DERIVED", "SECONDARY", "OTHER"],
        "SOPClassUID": MRImageStorage,
        "SyntheticData": "YES" if told.synthetic else "NO",
        "Modality": "MR",
        "Manufacturer": "voxella" if told.synthetic else None,
        "ManufacturerModelName": told.model[:_LONGEST] or None,
        "SoftwareVersions": f"voxella {version}",
        "SeriesDescription": told.description[:_LONGEST],
        "DerivationDescription": told.derivation,
        "PatientID": told.patient,
        "StudyInstanceUID": told.study,
        "SeriesInstanceUID": told.series,
        "SeriesNumber": told.number,
        "FrameOfReferenceUID": told.frame,
        # No pulse sequence was played: RM is research mode.
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "SliceThickness": _decimal(slices.between_mm),
        "SpacingBetweenSlices": _decimal(slices.between_mm),
        "PixelSpacing": [_decimal(edge) for edge in slices.spacing_mm],
        "ImageOrientationPatient": [_decimal(v) for v in (*slices.row, *slices.column)],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": slices.voxels.shape[1],
        "Columns": slices.voxels.shape[2],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleIntercept": _decimal(stored.intercept),
        "RescaleSlope": _decimal(stored.slope),
        "RescaleType": told.unit,
        "WindowCenter": _decimal((low + high) / 2),
        "WindowWidth": _decimal(high - low if high > low else 1.0),
        # LINEAR, the default, knows no window narrower than 1.
        "VOILUTFunction": "LINEAR_EXACT",
    }
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def image(common: Dataset, slices: Slices, pixels: NDArray[np.int16], index: int) -> Dataset:
    """Return one image of a series.

    Args:
        common: As :func:`header` returns it.
        slices: Where they lie.
        pixels: ``(slices, rows, columns)``.
        index: Which slice, from 0.
    """
    data = Dataset()
    data.update(common)
    data.SOPInstanceUID = uid("image", str(common.SeriesInstanceUID), index)
    data.InstanceNumber = index + 1
    position = slices.position_mm(index)
    data.ImagePositionPatient = [_decimal(value) for value in position]
    normal = np.cross(slices.row, slices.column)
    data.SliceLocation = _decimal(float(normal @ position))
    data.PixelData = pixels[index].astype("<i2").tobytes()
    data["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(MRImageStorage)
    meta.MediaStorageSOPInstanceUID = UID(data.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta = meta
    return data


def _decimal(value: float) -> str:
    """Return a decimal string; the sign of a zero is none."""
    return format_number_as_ds(float(value) + 0.0)
