"""How many cases a model was made from and is measured on: counts alone, no name and no id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from voxella.case import Case
from voxella.case.texts import texts_of

__all__ = ["counted"]

_UNKNOWN = "not known"


def counted(cases: Iterable[Case], text_source: str) -> dict[str, dict[str, Any]]:
    """Return counts by split: cases, patients, cases with a text, and cases by label.

    Args:
        cases: Of the prepared data set.
        text_source: Which text of a case is read: the recipe's ``text.source``.
    """
    by_split: dict[str, list[Case]] = {}
    for case in cases:
        by_split.setdefault(case.split or "none", []).append(case)
    order = {"train": 0, "val": 1, "test": 2}
    return {
        split: _counts(by_split[split], text_source)
        for split in sorted(by_split, key=lambda name: (order.get(name, 3), name))
    }


def _counts(cases: list[Case], text_source: str) -> dict[str, Any]:
    labels = Counter(_UNKNOWN if case.label is None else case.label for case in cases)
    read: Mapping[str, int] = dict(sorted(labels.items()))
    return {
        "cases": len(cases),
        "patients": len({case.group for case in cases}),
        "with_text": sum(bool(texts_of(case.texts_sha256, text_source)) for case in cases),
        "labels": read,
    }
