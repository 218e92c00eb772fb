"""Which images of a data set are sequences, which are masks, and which of them are exported."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxella.case import Case, Manifest
from voxella.data.grouping import Problems, image_problem
from voxella.errors import UserError
from voxella.wording import named_list

__all__ = ["Selection", "find_images", "refuse_existing", "select"]

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
# As the importers of PI-CAI and Prostate158 name them.
_MASKS = ("gland", "zones", "lesion", "anatomy")


@dataclass(frozen=True)
class Selection:
    """Names of a data set's images.

    Attributes:
        sequences: What is exported, in order.
        masks: What is a mask, in order.
    """

    sequences: tuple[str, ...]
    masks: tuple[str, ...]


def select(cases: Iterable[Case], sequences: Sequence[str], masks: Sequence[str]) -> Selection:
    """Return which images are sequences and which are masks.

    An image is a mask if ``masks`` names it, if it has a mask's name of the importers (gland,
    zones, lesion, anatomy), or if its case says where the mask comes from (``extra.NAME_mask``).

    Args:
        cases: All of the data set.
        sequences: The ones to export; none: all that are no masks, in the manifest's order.
        masks: The masks to export; none: all.

    Raises:
        UserError: A name is no image of any case; there is no case, or no sequence.
    """
    names: dict[str, None] = {}
    marked: set[str] = set()
    for case in cases:
        names.update(dict.fromkeys(case.images))
        marked |= {name for name in case.images if f"{name}_mask" in case.extra}
    unknown = [name for name in (*sequences, *masks) if name not in names]
    if unknown:
        raise UserError(
            f"no case has an image called {named_list(unknown)}",
            expected=named_list(names) or None,
        )
    if wrong := [name for name in names if not _FILE_NAME.fullmatch(name)]:
        raise UserError(
            f"images called {named_list(wrong)} cannot name a file of the export",
            expected="letters, digits and _ - . alone",
        )
    found = [name for name in names if name in masks or name in _MASKS or name in marked]
    asked = tuple(sequences) or tuple(name for name in names if name not in found)
    if not asked:
        raise UserError("there is no image to export", remedy="voxella check DATASET")
    if both := [name for name in asked if name in masks]:
        raise UserError(f"{named_list(both)}: asked for as a sequence and as a mask")
    return Selection(asked, tuple(name for name in masks or found if name not in asked))


def find_images(
    cases: Sequence[Case],
    source: Manifest,
    wanted: Callable[[Case, Collection[str]], Sequence[str]],
    problems: Problems,
) -> dict[str, dict[str, Path]]:
    """Return the files of the wanted images by case; what is absent is added to ``problems``.

    Args:
        cases: Whose images.
        source: Where the images are: the data set itself, or the same cases prepared.
        wanted: Maps a case and the names of its images in ``source`` to those it should have.
        problems: Gets one entry a case and image that is not there.
    """
    there: Mapping[str, Case] = {case.id: case for case in source}
    found: dict[str, dict[str, Path]] = {}
    for case in cases:
        own = there.get(case.id)
        if own is None:
            problems.add(case.id, "not among the prepared cases")
            continue
        found[case.id] = {}
        for name in wanted(case, own.images):
            if name not in own.images:
                problems.add(case.id, f"no {name} image")
                continue
            path = source.image_path(own, name)
            if (problem := image_problem(name, path)) is not None:
                problems.add(case.id, problem)
            else:
                found[case.id][name] = path
    return found


def refuse_existing(path: Path) -> None:
    """Refuse to write over an earlier export.

    Args:
        path: The file that an export writes last.

    Raises:
        UserError: It is there.
    """
    if path.exists():
        raise UserError(f"{path} is there already and not overwritten", remedy="give another --out")
