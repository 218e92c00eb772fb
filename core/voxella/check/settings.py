"""What a check holds a data set against: a recipe's wishes, or what most recipes wish.

The images of a case that are to be looked at, and which of them are not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.case import Case, Manifest
from voxella.check.catalogue import found
from voxella.check.finding import Finding
from voxella.recipe.inputs import Data, Prepare

__all__ = ["CaseImages", "CheckSettings", "images_of"]

# What importers and users call masks; importers also note `<name>_mask` in a case's extra.
# More labels than these are no classes.
_CLASSES = 20
_MASK = re.compile(r"mask|segm?(entation)?$|label|lesion|gland|zone|anatomy|tumou?r", re.IGNORECASE)


@dataclass(frozen=True)
class CheckSettings:
    """The wishes.

    Attributes:
        sequences: Sequences that every case must have, the first deciding the grid; None: no
            recipe, so each case's own, in the manifest's order.
        prepare: Says crop, intensities and number of axes.
        classes: Label names.
        positive: The positive one, where the recipe names it.
        optional: Sequences that a case may lack.
    """

    sequences: tuple[str, ...] | None
    prepare: Prepare
    classes: tuple[str, ...]
    positive: str | None = None
    optional: frozenset[str] = frozenset()

    @classmethod
    def of(cls, data: Data, prepare: Prepare) -> CheckSettings:
        """Return a recipe's wishes."""
        optional = frozenset(data.optional)
        return cls(tuple(data.sequences), prepare, tuple(data.classes), data.positive, optional)

    @classmethod
    def without_recipe(cls, cases: Iterable[Case] = ()) -> CheckSettings:
        """Return the defaults of every recipe; but of labels that are none of its classes these.

        Args:
            cases: Whose labels nobody has named: of tiles in four classes none is negative.
        """
        usual = tuple(Data().classes)
        labels = sorted({case.label for case in cases if case.label is not None})
        own = bool(labels) and not set(labels) & set(usual) and len(labels) <= _CLASSES
        return cls(None, Prepare(), tuple(labels) if own else usual)

    @classmethod
    def to_prepare(cls, sequences: Iterable[str], prepare: Prepare) -> CheckSettings:
        """Return the wishes that decide whether a case's images can be prepared."""
        return cls(tuple(sequences), prepare, ())

    @property
    def crop_mm(self) -> tuple[float | None, ...]:
        """Return the crop's edges along R, A, S in mm; None keeps an axis whole, or unknown."""
        told = [] if self.prepare.crop_voxels is not None else self.prepare.crop_mm
        return (*told, None, None, None)[:3]

    @property
    def flat(self) -> bool:
        """Return whether the recipe takes images of one slice."""
        return len(self.prepare.size) == 2

    def wants_colour(self, name: str) -> bool | None:
        """Return whether a sequence has to be in colours, or grey; None: no recipe says it."""
        return self.prepare.is_colour(name) if self.sequences is not None else None

    def wanted(self, case: Case) -> tuple[str, ...]:
        """Return the images to look at, the one that decides the grid first."""
        if self.sequences is None:
            # An importer may list a mask anywhere; it never decides the grid.
            return tuple(sorted(case.images, key=lambda name: self.is_mask(case, name)))
        around = self.prepare.crop_around
        there = [n for n in self.sequences if n in case.images or n not in self.optional]
        return (*there, *([around] if around and around not in there else []))

    def is_mask(self, case: Case, name: str) -> bool:
        """Return whether an image of a case is a mask: it may be empty, and equal another's."""
        if name == self.prepare.crop_around:
            return True
        if self.sequences is not None and name in self.sequences:
            return False  # The recipe makes it an image channel, and preparing treats it as one.
        return f"{name}_mask" in case.extra or _MASK.search(name) is not None

    def as_json(self) -> dict[str, Any]:
        """Return what decides an image's findings, as JSON-ready data."""
        told = {"prepare": self.prepare.model_dump(mode="json")}
        return told if self.sequences is not None else {**told, "colour": None}


@dataclass(frozen=True)
class CaseImages:
    """Image files of one case.

    Attributes:
        case: Its id.
        files: By sequence.
        masks: Sequences that are masks: they may be empty, and equal another case's.
        reference: The sequence that decides the grid; "" where the case has none.
    """

    case: str
    files: dict[str, Path]
    masks: frozenset[str]
    reference: str


def images_of(
    manifest: Manifest, case: Case, settings: CheckSettings
) -> tuple[CaseImages, list[Finding]]:
    """Return the images to look at, and a finding for each that is not there."""
    wanted = settings.wanted(case)
    images = CaseImages(
        case.id,
        {name: manifest.image_path(case, name) for name in wanted if name in case.images},
        frozenset(name for name in wanted if settings.is_mask(case, name)),
        next(iter(wanted), ""),
    )
    has = ", ".join(case.images) or "none"
    findings = [
        found("image.no-sequence", f"no {name} image (there is: {has})", case=case.id, where=name)
        for name in wanted
        if name not in case.images
    ]
    if not wanted:
        findings.append(found("image.no-sequence", "no image of any sequence", case=case.id))
    return images, findings
