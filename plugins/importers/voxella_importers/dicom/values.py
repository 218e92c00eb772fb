"""Fields of a DICOM header as the numbers and words they should be, or None.

Nothing here raises or quotes a field: what stands in a damaged header may be anything.

The b-value of a diffusion image: a standard field, or the manufacturer's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag

__all__ = [
    "B_VALUE_TAGS",
    "b_value",
    "first_item",
    "frame_b_value",
    "integer",
    "number",
    "numbers",
    "text",
    "words",
]

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


def text(dataset: Dataset, keyword: str) -> str:
    """Return a field as stripped text, empty where it is absent."""
    value = _get(dataset, keyword)
    return "" if value is None else str(value).strip(" \0")


def words(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return a field of several values as upper-case words."""
    return tuple(str(item).strip().upper() for item in _items(_get(dataset, keyword)))


def number(dataset: Dataset, keyword: str | int) -> float | None:
    """Return the first number of a field, or None where there is no finite one."""
    found = numbers(dataset, keyword)
    return found[0] if found else None


def integer(dataset: Dataset, keyword: str | int) -> int | None:
    """Return the first whole number of a field."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value.is_integer() else None


def numbers(dataset: Dataset, keyword: str | int, count: int | None = None) -> tuple[float, ...]:
    """Return a field's numbers; none where one is not finite or there are not ``count``."""
    try:
        found = tuple(float(str(item)) for item in _items(_get(dataset, keyword)))
    except ValueError:
        return ()
    if not all(map(math.isfinite, found)) or count not in (None, len(found)):
        return ()
    return found


def first_item(dataset: Dataset, *keywords: str) -> Dataset | None:
    """Follow sequences by the first item of each, or return None."""
    current: Dataset | None = dataset
    for keyword in keywords:
        items = None if current is None else current.get(keyword)
        current = items[0] if isinstance(items, Sequence) and len(items) else None
    return current


def _get(dataset: Dataset, keyword: str | int) -> Any:  # noqa: ANN401 - any DICOM value
    if isinstance(keyword, str):
        return dataset.get(keyword)
    return dataset[keyword].value if keyword in dataset else None


def _items(value: Any) -> list[Any]:  # noqa: ANN401 - any DICOM value
    if value is None or value == "":
        return []
    if isinstance(value, bytes):
        # Private fields that an archive has stored as bytes hold their text.
        return value.decode("ascii", errors="replace").strip(" \0").split("\\")
    if isinstance(value, Iterable) and not isinstance(value, str):
        return list(value)
    return [value]


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
