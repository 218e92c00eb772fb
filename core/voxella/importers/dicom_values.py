"""Fields of a DICOM header as the numbers and words they should be, or None.

Nothing here raises or quotes a field: what stands in a damaged header may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset

__all__ = ["first_item", "integer", "number", "numbers", "text", "words"]


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
