"""The texts of a case by name, and which of them is meant: the report, the impression, others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = [
    "ANY",
    "REPORT",
    "SYNTHETIC",
    "TEXT_NAME",
    "draw_text",
    "first_name",
    "in_order",
    "keeps_report",
    "split_text_id",
    "text_id",
    "texts_of",
]

REPORT = "report"
# Written by rule for a case that has no text (`text.synthesise`); no importer may use the name.
SYNTHETIC = "synthetic-report"
# What a recipe says that has no text in particular in mind.
ANY = "any"
TEXT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,31}")


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return a case's texts in their order: the report, then the others by name.

    A manifest's own order says nothing: not every format keeps it.
    """
    return tuple(sorted(names, key=lambda name: (name != REPORT, name)))


def texts_of(names: Iterable[str], source: str) -> tuple[str, ...]:
    """Return which of a case's texts a recipe reads; of several the first is the fixed one.

    Args:
        names: The texts of the case.
        source: The recipe's ``text.source``: a name, or ``any``.
    """
    return tuple(name for name in in_order(names) if source in {ANY, name})


def first_name(source: str) -> str:
    """Return the name that a text goes by which stands for a case's own, as a prompt does."""
    return REPORT if source == ANY else source


def draw_text(names: Sequence[str], *, seed: int, case_id: str, epoch: int) -> str | None:
    """Return the text that a visit sees, one of several by chance; None where there is none."""
    if len(names) < 2:
        return names[0] if names else None
    # Importers are named without numpy, and they know of cases.
    from voxella.philox import keyed_generator

    drawn = keyed_generator(seed, "text", case_id, epoch).integers(len(names))
    return names[int(drawn)]


def keeps_report(share: float, *, seed: int, case_id: str) -> bool:
    """Return whether a case is among the share whose reports are read.

    A case is drawn by (seed, id) alone: those of a smaller share are among those of a larger one,
    whatever other cases there are. The count is near the share, not exact.
    """
    from voxella.philox import keyed_generator

    return float(keyed_generator(seed, "reports-share", case_id).random()) < share


def text_id(case_id: str, name: str = REPORT) -> str:
    """Return what stands for one text of a data set: its case's id for a report, else ID/NAME."""
    return case_id if name == REPORT else f"{case_id}/{name}"


def split_text_id(text: str) -> tuple[str, str]:
    """Return case and name behind a :func:`text_id`; a case's id holds no stroke."""
    case_id, _, name = text.partition("/")
    return case_id, name or REPORT
