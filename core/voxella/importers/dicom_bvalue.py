"""The b-value of a diffusion image: a standard field, or the manufacturer's own."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from voxella.importers.dicom_values import first_item, number, text, words

__all__ = ["B_VALUE_TAGS", "b_value", "frame_b_value"]

# The manufacturer's field, who has to have reserved it, and where that is written. The sources are
# pydicom's private dictionary and dcm2niix.
_PRIVATE = (
    (0x0019100C, 0x00190010, "SIEMENS MR HEADER"),
    (0x20011003, 0x20010010, "PHILIPS IMAGING DD 001"),
    (0x00431039, 0x00430010, "GEMS_PARM_01"),
)
B_VALUE_TAGS = tuple(Tag(tag) for field in _PRIVATE for tag in field[:2])
# GE adds a large round number, as in 1000000800, to say that the image is combined.
_GE_MODULUS = 100_000
# Maps are computed from several b-values. Siemens writes the highest one into them all the same.
_MAPS = frozenset({"ADC", "EADC", "FA", "COLFA", "TENSOR"})


def b_value(dataset: Dataset) -> float | None:
    """Return an image's b-value in s/mm2, or None where there is none or it is a map.

    The sequence's name comes last: Siemens names computed images after the measured ones, so
    ``*ep_b50_800`` can hold b 1000.
    """
    if _MAPS & set(words(dataset, "ImageType")):
        return None
    standard = number(dataset, "DiffusionBValue")
    if standard is not None:
        return standard
    for tag, owner, name in _PRIVATE:
        owned = owner in dataset and str(dataset[owner].value).strip().upper() == name
        found = number(dataset, tag) if owned else None
        if found is not None:
            return found % _GE_MODULUS
    match = re.fullmatch(r"\*?ep_b(\d+)(t|#\d+)?", text(dataset, "SequenceName"))
    return float(match[1]) if match else None


def frame_b_value(frame: Dataset, shared: Dataset) -> float | None:
    """Return the b-value of one frame of a multi-frame image, from its functional groups."""
    for group in (frame, shared):
        item = first_item(group, "MRDiffusionSequence")
        found = None if item is None else number(item, "DiffusionBValue")
        if found is not None:
            return found
    return None
