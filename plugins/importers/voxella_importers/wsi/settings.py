"""The ``wsi`` importer's arguments, checked before a slide is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from voxella.data.drafts import check_shares
from voxella.hashing import sha256_json
from voxella_importers.captions import CaptionRule

__all__ = ["CONCEPTS", "Given", "WsiSettings"]

# What WSInfer's models measure: our name, and the column of their tables.
CONCEPTS = {"tumor": "prob_Tumor", "til": "prob_Lymphocytes"}
# Raise this whenever the same settings give other tiles.
_GENERATION = 1
_TEXTS = ("caption", "summary")


@dataclass(frozen=True)
class Given:
    """A number that the user supplies where slides do not say it: for all, or by slide."""

    every: float | None = None
    by_slide: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, told: float | Mapping[str, float] | None) -> Given:
        """Return it from a recipe's value."""
        if isinstance(told, Mapping):
            pairs = sorted((str(name), float(number)) for name, number in told.items())
            return cls(None, tuple(pairs))
        return cls(None if told is None else float(told))

    def of_slide(self, slide: str) -> float | None:
        """Return a slide's number; None where none is given."""
        return dict(self.by_slide).get(slide, self.every)

    def numbers(self) -> list[float]:
        """Return all that are given."""
        return [number for _, number in self.by_slide] + ([self.every] if self.every else [])


@dataclass(frozen=True)
class WsiSettings:
    """The builder's arguments, see :func:`voxella_importers.wsi.plugin.wsi`."""

    source: Path
    side: int
    magnification: float | None
    mpp: float | None
    slide_magnification: Given
    slide_mpp: Given
    tissue: float
    edges: float
    quality: int | None
    most_tiles: int | None
    tumor: Path | None
    til: Path | None
    columns: dict[str, str]
    summaries: Path | None
    text: str
    rule: CaptionRule
    group: str | None
    seed: int
    val_share: float
    test_share: float
    parquet_above: int
    workers: int

    def problems(self) -> list[str]:
        """Return every fault of these settings, each as one line that says what is expected."""
        found = [*self._size(), *self.rule.problems(), *self._folders()]
        found += check_shares(self.val_share, self.test_share)
        if not 0 <= self.tissue <= 1:
            found.append(f"tissue is {self.tissue:g}; expected: 0 to 1, the least share of a tile")
        if not 0 <= self.edges <= 765:
            found.append(f"edges is {self.edges:g}; expected: 0 (off) to 765; PathLDM's tiler: 15")
        if self.quality is not None and not 1 <= self.quality <= 95:
            found.append(f"quality is {self.quality}; expected: 1 to 95 (JPEG), or null (PNG)")
        if self.most_tiles is not None and self.most_tiles < 1:
            found.append(f"most_tiles is {self.most_tiles}; expected: 1 or more, or null for all")
        if self.text not in _TEXTS:
            found.append(f"text is not one of {', '.join(_TEXTS)}")
        if unknown := [name for name in self.columns if name not in CONCEPTS]:
            found.append(f"columns has {len(unknown)} unknown names; expected: tumor, til")
        if self.workers < 0:
            found.append(f"workers is {self.workers}; expected: 0 (as many as cores) or more")
        try:
            groups = re.compile(self.group or "()").groups
        except re.error as error:
            found.append(f"group is no regular expression: {error.msg}")
        else:
            if groups != 1:
                found.append(f"group has {groups} groups in brackets; expected: one, the patient")
        return found

    def tiles_hash(self, slide: str) -> str:
        """Return a hash of what decides a slide's tiles: not texts, splits or workers."""
        irrelevant = {
            *("source", "tumor", "til", "columns", "summaries", "text", "rule", "group", "seed"),
            *("val_share", "test_share", "parquet_above", "workers"),
            *("slide_magnification", "slide_mpp"),
        }
        names = {field.name for field in fields(self)} - irrelevant
        kept = {name: value for name, value in asdict(self).items() if name in names}
        given = [self.slide_magnification.of_slide(slide), self.slide_mpp.of_slide(slide)]
        return sha256_json({"generation": _GENERATION, "given": given, **kept})

    def _size(self) -> list[str]:
        found = []
        if not 16 <= self.side <= 8192:
            found.append(f"side is {self.side}; expected: 16 to 8192 pixels")
        if (self.magnification is None) == (self.mpp is None):
            found.append("magnification or mpp (micrometres per pixel); expected: one of the two")
        asked = {"magnification": self.magnification, "mpp": self.mpp}
        found += [
            f"{name} is {value:g}; expected: more than 0 and at most 200"
            for name, value in asked.items()
            if value is not None and not 0 < value <= 200
        ]
        given = {"slide_magnification": self.slide_magnification, "slide_mpp": self.slide_mpp}
        found += [
            f"{name} is {number:g}; expected: more than 0 and at most 200"
            for name, numbers in given.items()
            for number in numbers.numbers()
            if not 0 < number <= 200
        ]
        return found

    def _folders(self) -> list[str]:
        folders = {"source": self.source, "tumor": self.tumor, "til": self.til}
        found = [
            f"{name}: there is no folder {folder}"
            for name, folder in folders.items()
            if folder is not None and not folder.is_dir()
        ]
        if self.summaries is not None and not self.summaries.exists():
            found.append(f"summaries: there is no folder or table {self.summaries}")
        return found
