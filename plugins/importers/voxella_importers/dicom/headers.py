"""One file to what is known of it. Identifiers are hashed right here and go no further.

Series descriptions that can be shown: the words of MR protocols, and nothing somebody typed.

A description is typed at the scanner and sometimes holds a name, a number or a date. Only words on
a fixed list pass; what stands between them is an ellipsis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from voxella.machine import raise_if_machine
from voxella.texts.ids import comparable_id
from voxella.texts.placeholders import is_nothing
from voxella_importers.dicom.file import Unreadable, is_whole, open_dicom
from voxella_importers.dicom.identity import Identity
from voxella_importers.dicom.keep import Kept, kept_values
from voxella_importers.dicom.settings import KeyedBy, SeriesRule
from voxella_importers.dicom.slice import Slice, frames_of, slice_of
from voxella_importers.dicom.values import integer, numbers, text, words

__all__ = ["Asked", "Header", "read_header", "shown_description"]

_MR = "1.2.840.10008.5.1.4.1.1.4"
_ENHANCED = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
_DIRECTORY = "1.2.840.10008.1.3.10"
_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
_JOINS: dict[KeyedBy, str] = {
    "study": "StudyInstanceUID",
    "accession": "AccessionNumber",
    "patient": "PatientID",
}

_WORDS = frozenset(
    """
    2d 3d ax axial tra trans transverse transversal sag sagittal cor coronal obl oblique iso
    t1 t1w t2 t2w t2star pd pdw tse fse frfse ssfse haste space spc cube vista blade propeller
    tirm stir flair fs fatsat spair dixon water fat opp inphase in phase out
    ep2d epi se ge gre flash vibe lava thrive tfl twist tricks dyn dynamic dynamisch dce perf
    perfusion ktrans diff diffusion dwi dti adc eadc dadc trace tracew b bval bvals calc calcbval
    dyndist dyndistcalc dyndistcalcbval dist mix dis2d dis3d nd norm hbv high low highb synthetic
    resolve zoomit focus rfov prostate prostaat prostata pelvis bekken becken loc localizer
    localiser scout survey plan ref map mip mpr sub subtraction contrast post pre km gd fast
    hires hr small fov large whole body mr mri
    """.split()
)
_NUMBERED = re.compile(r"b\d{1,4}t?|t[12]w?")
_MODALITIES = frozenset(
    "CT PT US CR DX MG NM XA RF OT SC SR PR KO SEG RTSTRUCT RTPLAN RTDOSE RTIMAGE".split()
)


@dataclass(frozen=True)
class Asked:
    """What is looked for in every file.

    Attributes:
        identity: Hashes identifiers.
        rules: The rule of each sequence.
        keyed_by: The identifier that tables of reports and labels are keyed by.
        keep: DICOM keywords to keep.
    """

    identity: Identity
    rules: Mapping[str, SeriesRule]
    keyed_by: KeyedBy
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Header:
    """One file of a series. No identifier, name, date or free text of the file is in here.

    Attributes:
        path: The file.
        case: Keyed hash of the study.
        patient: Keyed hash of the patient, None where the file names none.
        comparable_hash: Keyed hash of what patients' ids that differ only in case or padding share.
        join: Keyed hash of the identifier that tables are keyed by, None where there is none.
        series: Keyed hash of the series.
        number: SeriesNumber.
        shown: The description, as far as it can be shown.
        fits: Sequences whose rule the description fits.
        slices: The file's slices, empty where no rule fits.
        plane_of: Orientation of a single slice, known also where no rule fits; else empty.
        kind: What makes it no volume's slice at all: a localizer, a mosaic, CT; or None.
        defect: What is wrong with a file that is of the right kind, or None.
        compressed: Its pixels have to be decoded.
        kept: Values to keep, by keyword.
    """

    path: Path
    case: str
    patient: str | None
    comparable_hash: str | None
    join: str | None
    series: str
    number: int | None
    shown: str
    fits: frozenset[str]
    slices: tuple[Slice, ...]
    plane_of: tuple[float, ...]
    kind: str | None
    defect: str | None
    compressed: bool
    kept: dict[str, Kept] = field(default_factory=dict)


def read_header(path: Path, asked: Asked) -> Header | None:
    """Read one file; None when it is of another kind: a note, a DICOMDIR, a structured report.

    Raises:
        Unreadable: It should be an image and cannot be read.
    """
    opened = open_dicom(path, asked.keep)
    if opened is None:
        return None
    dataset, begin = opened
    try:
        return _header(path, dataset, begin, asked)
    except Unreadable:
        raise
    except OSError as error:
        raise_if_machine(error, path)
        raise Unreadable(f"cannot be read ({error.strerror})") from None
    except Exception as error:
        raise_if_machine(error, path)
        # Any field of a damaged header can fail to be what it should be.
        raise Unreadable("damaged: its header cannot be understood") from None


def _header(path: Path, dataset: Dataset, begin: int, asked: Asked) -> Header | None:
    meta = dataset.file_meta
    sop_class = text(dataset, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    if sop_class == _DIRECTORY:
        return None
    study, series = text(dataset, "StudyInstanceUID"), text(dataset, "SeriesInstanceUID")
    if not (sop_class and study and series):
        raise Unreadable("truncated or damaged: its header does not say what it is of")
    if sop_class not in (_MR, *_ENHANCED) and integer(dataset, "Rows") is None:
        return None  # a structured report, a presentation state, raw data
    description = text(dataset, "SeriesDescription") or text(dataset, "ProtocolName")
    fits = frozenset(name for name, rule in asked.rules.items() if rule.fits(description))
    kind = _kind(dataset, sop_class)
    found: tuple[Slice, ...] = ()
    defect = None
    if fits and kind is None:
        found, defect = _slices(path, dataset, begin, asked.identity)
    patient, join = text(dataset, "PatientID"), text(dataset, _JOINS[asked.keyed_by])
    named = bool(patient) and not is_nothing(patient)
    return Header(
        path=path,
        case=asked.identity.case(study),
        patient=asked.identity.patient(patient) if named else None,
        comparable_hash=asked.identity.digest("alike", comparable_id(patient)) if named else None,
        join=asked.identity.digest("join", join) if join else None,
        series=asked.identity.digest("series", series),
        number=integer(dataset, "SeriesNumber"),
        shown=shown_description(description),
        fits=fits,
        slices=found,
        plane_of=numbers(dataset, "ImageOrientationPatient", 6),
        kind=kind,
        defect=defect,
        compressed=not _is_plain(meta),
        kept=kept_values(dataset, asked.keep) if fits else {},
    )


def _slices(
    path: Path, dataset: Dataset, begin: int, identity: Identity
) -> tuple[tuple[Slice, ...], str | None]:
    """Return a file's slices, or none and what is wrong."""
    if not is_whole(path, dataset, begin):
        return (), "truncated: the file ends before its pixels do"
    if (integer(dataset, "SamplesPerPixel") or 1) != 1:
        return (), "colour; one number per voxel is needed"
    if text(dataset, "PhotometricInterpretation") != "MONOCHROME2":
        return (), "not stored as MONOCHROME2 (brighter is more)"
    uid = identity.digest("image", text(dataset, "SOPInstanceUID"))
    if (integer(dataset, "NumberOfFrames") or 1) > 1:
        frames = frames_of(path, dataset, uid)
        return ((), frames) if isinstance(frames, str) else (tuple(frames), None)
    one = slice_of(path, dataset, uid)
    return ((one,), None) if one is not None else ((), "without position, orientation or spacing")


def _kind(dataset: Dataset, sop_class: str) -> str | None:
    """Return what makes an image no slice of a volume, or None."""
    modality, image_type = text(dataset, "Modality").upper(), words(dataset, "ImageType")
    if modality not in ("MR", "") or (modality == "" and sop_class not in (_MR, *_ENHANCED)):
        return f"not MR but {known_modality(modality)}"
    if sop_class.startswith(_CAPTURES):
        return "a secondary capture (a picture of a screen)"
    if sop_class not in (_MR, *_ENHANCED):
        return "no MR image"
    if text(dataset, "BurnedInAnnotation").upper() == "YES":
        return "marked as having text burned into its pixels"
    if "MOSAIC" in image_type:
        return "a mosaic (all slices tiled into one image)"
    return "a localizer" if "LOCALIZER" in image_type else None


def _is_plain(meta: Dataset) -> bool:
    syntax = UID(text(meta, "TransferSyntaxUID"))
    known = syntax.is_transfer_syntax and not syntax.is_private
    return known and not syntax.is_compressed


def shown_description(description: str) -> str:
    """Return the description with every word that is not on the list left out."""
    shown: list[str] = []
    for word in re.findall(r"[^\W_]+", description):
        known = word.lower() in _WORDS or _NUMBERED.fullmatch(word.lower())
        part = word if known else "…"
        if part != "…" or shown[-1:] != ["…"]:
            shown.append(part)
    return "_".join(shown)


def known_modality(modality: str) -> str:
    """Return a modality that the standard defines; other words could be anything."""
    return modality if modality in _MODALITIES else "another modality"
