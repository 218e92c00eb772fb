"""What of a DICOM header may survive into the manifest: nothing, but what a recipe lists here.

Names, dates, identifiers and free text cannot be listed. What may be is decided by the kind of
value: numbers, ages and the standard's own codes; of free text only what names the scanner's type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from voxella.case import ConditionValue
from voxella.wording import quoted

__all__ = ["as_conditions", "keep_problems", "kept_values"]

Kept = int | float | str | list[float]

_NUMBERS = frozenset({"DS", "IS", "FD", "FL", "US", "SS", "UL", "SL"})
_CODES = frozenset({"CS", "AS"})
# Text that a manufacturer writes, not a person at the scanner.
_TEXTS = frozenset({"Manufacturer", "ManufacturerModelName", "SoftwareVersions", "SequenceName"})
# Numbers of people's records that have a number's kind.
_DENIED = frozenset({"OtherStudyNumbers"})
_LONGEST = 32
_MOST_NUMBERS = 16
# Above it an age is rare enough to tell a person (HIPAA, 45 CFR 164.514(b)(2)(i)(C)).
_OLDEST = 89
_BEYOND = "090Y+"


def keep_problems(keywords: Iterable[str], argument: str = "keep") -> list[str]:
    """Return what is wrong with a list of DICOM keywords to keep.

    Args:
        keywords: As the recipe has them.
        argument: What they were given to.
    """
    problems: list[str] = []
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None:
            problems.append(f"{argument}: {quoted(keyword)} is no DICOM keyword")
            continue
        kind = dictionary_VR(tag)
        if keyword in _DENIED or (keyword not in _TEXTS and kind not in _NUMBERS | _CODES):
            problems.append(
                f"{argument}: {keyword} ({kind}) may identify a person; kept can be numbers, "
                f"codes (CS), ages and {', '.join(sorted(_TEXTS))}"
            )
    return problems


def as_conditions(
    kept: Mapping[str, Kept], keywords: Mapping[str, str]
) -> dict[str, ConditionValue]:
    """Return kept fields as a case's conditions: numbers and words; an age in years.

    What a header lacks is left out, and so are fields of several numbers: no condition is a list.

    Args:
        kept: By keyword, as :func:`kept_values` returns them.
        keywords: The keyword of each condition by our name.
    """
    found: dict[str, ConditionValue] = {}
    for name, keyword in keywords.items():
        value = kept.get(keyword)
        if isinstance(value, str) and (tag := tag_for_keyword(keyword)) is not None:
            found[name] = _years(value) if dictionary_VR(tag) == "AS" else value
        elif value is not None and not isinstance(value, list):
            found[name] = value
    return found


def _years(age: str) -> float:
    """Return an age such as ``063Y`` in years; above 89 it is 90, see ``_OLDEST``."""
    if age == _BEYOND:
        return _OLDEST + 1
    number, unit = int(age[:3]), age[3]
    return number if unit == "Y" else round(number / {"M": 12, "W": 52.18, "D": 365.25}[unit], 2)


def kept_values(dataset: Dataset, keywords: Iterable[str]) -> dict[str, Kept]:
    """Return the listed fields of one header; what is absent or not of its kind is left out."""
    values = ((keyword, _value(dataset, keyword)) for keyword in keywords)
    return {keyword: value for keyword, value in values if value is not None}


def _value(dataset: Dataset, keyword: str) -> Kept | None:
    value = dataset.get(keyword)
    tag = tag_for_keyword(keyword)
    if value is None or tag is None:
        return None
    kind = dictionary_VR(tag)
    items = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if kind in _NUMBERS:
        return _numbers(items)
    if kind == "AS":
        return _age(str(items[0])) if items else None
    text = "\\".join(str(item).strip() for item in items)
    # A code is upper case by the standard; anything else in its place is somebody's text.
    pattern = r"[A-Z0-9_ \\]+" if kind == "CS" else r"[\w .,:;*#+/()\\-]+"
    return text if len(text) <= _LONGEST and re.fullmatch(pattern, text) else None


def _numbers(items: list[object]) -> int | float | list[float] | None:
    try:
        numbers = [float(str(item)) for item in items]
    except ValueError:
        return None
    if not 0 < len(numbers) <= _MOST_NUMBERS or not all(map(math.isfinite, numbers)):
        return None
    if len(numbers) > 1:
        return numbers
    return int(numbers[0]) if numbers[0].is_integer() else numbers[0]


def _age(text: str) -> str | None:
    """Return an age such as ``063Y``; above 89 years only that it is."""
    match = re.fullmatch(r"(\d{3})([DWMY])", text.strip())
    if match is None:
        return None
    return _BEYOND if match[2] == "Y" and int(match[1]) > _OLDEST else match[0]
