"""Names under which a data set leaves: pseudonyms, and nothing of what they stand for.

A synthetic data set has pseudonyms already (:mod:`voxella.data.pseudonyms`), and keeps them. Real
groups and cases are numbered in the manifest's order: a hash of an id could be found again by
trying ids, and a key would have to be kept somewhere. Who holds the data set can count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from voxella.case import Case

__all__ = ["ExportedName", "exported_names", "is_synthetic"]


@dataclass(frozen=True)
class ExportedName:
    """What a case is called outside.

    Attributes:
        case: Its id; names files.
        group: The patient's.
    """

    case: str
    group: str


def is_synthetic(case: Case) -> bool:
    """Return whether a model has made a case's images."""
    return case.extra.get("synthetic") is True


def exported_names(cases: Iterable[Case]) -> dict[str, ExportedName]:
    """Return names by case id, the same for the same data set.

    Args:
        cases: All of the data set, in the manifest's order.
    """
    numbers: dict[str, int] = {}
    of_group: Counter[str] = Counter()
    names: dict[str, ExportedName] = {}
    for case in cases:
        if is_synthetic(case):
            names[case.id] = ExportedName(case.id, case.group)
            continue
        group = f"P{numbers.setdefault(case.group, len(numbers) + 1):05d}"
        of_group[group] += 1
        names[case.id] = ExportedName(f"{group}-{of_group[group]:02d}", group)
    return names
