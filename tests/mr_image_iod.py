"""What the standard asks of an MR image, as a list.

Attributes of type 1 (there, with a value) and type 2 (there) at the top level of the modules that
are mandatory in table A.4-1 of DICOM PS3.3, as highdicom 0.28.2 keeps them (generated from the
standard; ``_standard/iod_module_map.json`` and ``module_attribute_map.json``, key ``mr-image``).
Types 1C and 2C are conditional; those that apply to every such image are in the lists.
"""

from __future__ import annotations

__all__ = ["TYPE_1", "TYPE_2"]

TYPE_1 = {
    "General Study": ["StudyInstanceUID"],
    "General Series": ["Modality", "SeriesInstanceUID"],
    "Frame of Reference": ["FrameOfReferenceUID"],
    "Image Plane": ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"],
    "Image Pixel": [
        *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated"),
        *("BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    ],
    "MR Image": ["ImageType", "ScanningSequence", "SequenceVariant"],
    "SOP Common": ["SOPClassUID", "SOPInstanceUID"],
}
TYPE_2 = {
    "Patient": ["PatientName", "PatientID", "PatientBirthDate", "PatientSex"],
    "General Study": [
        *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
    ],
    "General Series": ["PatientPosition", "SeriesNumber"],
    "Frame of Reference": ["PositionReferenceIndicator"],
    "General Equipment": ["Manufacturer"],
    "General Image": ["InstanceNumber"],
    "Image Plane": ["SliceThickness"],
    "MR Image": ["ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength"],
}
