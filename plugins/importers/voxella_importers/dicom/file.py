"""One file: is it DICOM, is it whole, and the few header fields that are looked at.

Pixels are not read here, only measured: pydicom returns a truncated file without a word, and what
lies beyond its end is zeros to some readers.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import UID

from voxella.machine import raise_if_machine
from voxella_importers.dicom.values import B_VALUE_TAGS, integer

__all__ = ["Unreadable", "is_whole", "open_dicom"]

_FIELDS = """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID PatientID AccessionNumber Modality
    SeriesNumber SeriesDescription ProtocolName ImageType InstanceNumber BurnedInAnnotation
    ImageOrientationPatient ImagePositionPatient PixelSpacing SliceThickness NumberOfFrames
    Rows Columns SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored
    SequenceName DiffusionBValue DiffusionGradientOrientation EchoTime TemporalPositionIdentifier
    TriggerTime AcquisitionNumber AcquisitionTime ContentTime
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
    """.split()
_PREAMBLE = 128
_LFS = b"version https://git-lfs"
_NO_IMAGES = frozenset(
    """
    txt csv tsv json jsonl xml html htm md yaml yml log ini inf db lnk url pdf doc docx xls xlsx ppt
    pptx jpg jpeg png bmp gif tif tiff exe dll bat sh py zip gz tgz tar 7z rar bz2 xz nii mha mhd
    nrrd nhdr raw bval bvec md5 sha1 sha256
    """.split()
)
_MEDIA_FILES = frozenset({"DICOMDIR", "LOCKFILE", "VERSION", "README", "LICENSE", "AUTORUN"})
_UNDEFINED = 0xFFFFFFFF


class Unreadable(Exception):
    """A file that should be DICOM and cannot be read. Holds the reason, never what is in it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def open_dicom(path: Path, keep: tuple[str, ...]) -> tuple[FileDataset, int] | None:
    """Read the fields looked at and those of ``keep``; None for a file that is no image's.

    Returns:
        The header, and the position where the pixels should begin.

    Raises:
        Unreadable: It is damaged, truncated, header-less, or a Git-LFS pointer.
    """
    try:
        with path.open("rb") as handle:
            start = handle.read(_PREAMBLE + 4)
            if start[_PREAMBLE:] != b"DICM":
                _refuse(path, start)
                return None
            handle.seek(0)
            fields = [*(Tag(keyword) for keyword in (*_FIELDS, *keep)), *B_VALUE_TAGS]
            dataset = dcmread(handle, stop_before_pixels=True, specific_tags=fields)
            return dataset, handle.tell()
    except OSError as error:
        raise_if_machine(error, path)
        raise Unreadable(f"cannot be opened ({error.strerror})") from None
    except Unreadable:
        raise
    except Exception as error:
        raise_if_machine(error, path)
        # pydicom raises anything over a damaged header, and its messages quote what stands there.
        raise Unreadable("damaged: its header cannot be understood") from None


def _refuse(path: Path, start: bytes) -> None:
    """Raise for what should be DICOM; return for a file of another kind.

    Raises:
        Unreadable: As :func:`open_dicom`.
    """
    if start.startswith(_LFS):
        raise Unreadable("a Git-LFS pointer, not the image itself (git lfs pull fetches it)")
    suffix = path.suffix.lower().lstrip(".")
    if suffix in _NO_IMAGES or path.name.upper() in _MEDIA_FILES:
        return
    if not start:
        raise Unreadable("empty")
    if re.match(rb"[\x02\x08]\x00.\x00|\x00[\x02\x08]\x00.", start, re.DOTALL):
        raise Unreadable("header-less: DICOM fields without the preamble and its mark DICM")
    if not suffix and re.fullmatch(rb"[\t\n\r\x20-\x7e]*", start):
        return  # plain text, such as a note that came with the disc
    raise Unreadable("no DICOM: the mark DICM is not where it should be")


def is_whole(path: Path, dataset: Dataset, begin: int) -> bool:
    """Return whether the file holds all the pixels that its header announces.

    Args:
        path: The file.
        dataset: Its header.
        begin: Where the pixels' element begins.
    """
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    if syntax.is_private or not syntax.is_transfer_syntax or syntax.is_deflated:
        return True  # cannot be measured; decoding it will tell
    with path.open("rb") as handle:
        handle.seek(begin)
        order = "little" if syntax.is_little_endian else "big"
        tag = [int.from_bytes(handle.read(2), order) for _ in range(2)]  # type: ignore[arg-type]  # a Literal
        if tag != [0x7FE0, 0x0010]:
            return False
        if not syntax.is_implicit_VR:
            handle.read(4)
        length = int.from_bytes(handle.read(4), order)  # type: ignore[arg-type]  # a Literal
        if length == _UNDEFINED:
            return _ends(handle)
        held = os.fstat(handle.fileno()).st_size - handle.tell()
    return held >= length >= _announced(dataset) > 0


def _announced(dataset: Dataset) -> int:
    """Return the bytes that uncompressed pixels take."""
    names = ("Rows", "Columns", "BitsAllocated")
    rows, columns, bits = (integer(dataset, name) or 0 for name in names)
    samples = integer(dataset, "SamplesPerPixel") or 1
    frames = integer(dataset, "NumberOfFrames") or 1
    return rows * columns * samples * frames * bits // 8


def _ends(handle: BinaryIO) -> bool:
    """Return whether compressed pixels, a chain of items, reach the mark of their end."""
    size = os.fstat(handle.fileno()).st_size
    while len(head := handle.read(8)) == 8:
        if head[:4] == b"\xfe\xff\xdd\xe0":
            return True
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"\xfe\xff\x00\xe0" or handle.tell() + length > size:
            return False
        handle.seek(length, os.SEEK_CUR)
    return False
