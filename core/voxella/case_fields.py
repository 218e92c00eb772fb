"""What may stand in each field of a case: codes and names, never a sentence.

A wrong column of a table brings a report where nobody expects it. This is the one rule for that:
importers ask it before they write, the manifest asks it when it is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from voxella.wording import named, why_no_name, why_sentence

__all__ = ["GUARDED", "LONGEST_GROUP", "conditions_problem", "field_problem", "spacing_of"]

# An id of 128 characters, and what stands before it for a synthetic counterpart.
LONGEST_GROUP = 144
_PATHS = ("images", "texts", "truth")
GUARDED = (
    "group",
    "images",
    "texts",
    "texts_sha256",
    "label",
    "label_source",
    "truth",
    "conditions",
    "extra",
)


def field_problem(field: str, value: object) -> str | None:
    """Return why a value cannot stand in a field of a case, or None; never quotes it.

    Args:
        field: A field of :class:`voxella.case.Case`.
        value: What is to stand in it; None and "" are nothing, and pass.
    """
    return next((why for text in _texts(value) if (why := _problem(field, text))), None)


def conditions_problem(value: object) -> str | None:
    """Return why a value cannot be a case's ``conditions``, whatever its words are; else None."""
    if not isinstance(value, Mapping):
        return "no mapping of names to numbers and words"
    for name, item in value.items():
        if item is None or isinstance(item, str):
            continue
        if isinstance(item, bool) or not isinstance(item, int | float) or not _finite(item):
            return f"{named(str(name))} is no finite number, no word and not null"
    return None


def spacing_of(extra: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Return the voxel's edges in mm of what a case keeps; None where nothing says them."""
    known = extra.get("spacing_mm")
    return None if known is None else tuple(float(edge) for edge in known)


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond what a float holds
        return False


def _problem(field: str, text: tuple[str, bool]) -> str | None:
    value, is_key = text
    if not value:
        return None
    if is_key:
        why = why_sentence(value)
        return None if why is None else f"has a key that {why}"
    if field in _PATHS:
        return _path_problem(value)
    if field == "extra":
        # A scanner's or a site's name; or a path, which an importer may keep.
        return _path_problem(value) if PurePosixPath(value).is_absolute() else why_no_name(value)
    if field == "group":
        return why_sentence(value, longest=LONGEST_GROUP)
    return why_sentence(value)


def _path_problem(path: str) -> str | None:
    # Folders that lead to a data set are the user's own, and may be called anything.
    whole = PurePosixPath(path.replace("\\", "/"))
    parts = [whole.name] if whole.is_absolute() else whole.parts
    found = (f"has a part that {why}" for part in parts if (why := why_no_name(part)) is not None)
    return next(found, None)


def _texts(value: object) -> Iterator[tuple[str, bool]]:
    """Yield every text within a value, and whether it is a key."""
    layer: list[Any] = [value]
    while layer:
        item = layer.pop()
        if isinstance(item, str):
            yield item, False
        elif isinstance(item, Mapping):
            yield from ((str(key), True) for key in item)
            layer += item.values()
        elif isinstance(item, list | tuple):
            layer += item
