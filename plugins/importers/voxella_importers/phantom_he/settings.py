"""What can be asked of the H&E phantom, and what of it decides a single tile."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from voxella.hashing import sha256_json
from voxella_importers.captions import CaptionRule

__all__ = ["TEXTS", "HESettings"]

# Raise this whenever the same settings give another tile, truth or report, so that an older data
# set is generated anew and not silently mixed with newer tiles.
GENERATION = 1

TEXTS = ("caption", "summary", "report")
SUMMARIES_OF = ("own", "another")
_SUMMARIES = 20
_MPP = (0.2, 2.0)
_SMALLEST_UM = 32.0  # room for a handful of nuclei
_LARGEST_PIXELS = 4096


@dataclass(frozen=True)
class HESettings:
    """The builder's arguments, see :func:`voxella_importers.phantom_he.plugin.phantom_he`."""

    slides: int
    tiles: int
    seed: int
    pixels: int
    mpp: float
    tumour_share: float
    til_share: float
    missing_probabilities: float
    text: str
    rule: CaptionRule
    val_share: float
    test_share: float
    workers: int
    summaries: int = 1
    summary_of: str = "own"

    def problems(self) -> list[str]:
        """Return every fault of these settings, each as one line that says what is expected."""
        return [*self._counts(), *self._grid(), *self._shares(), *self.rule.problems()]

    def slide_hash(self) -> str:
        """Return the hash of what decides a slide's files: not the count, split or workers."""
        irrelevant = {"slides", "workers", "val_share", "test_share"}
        kept = {key: value for key, value in asdict(self).items() if key not in irrelevant}
        # Left out at their defaults: slides from before these keys are those without them.
        for key, usual in (("summaries", 1), ("summary_of", "own")):
            if kept[key] == usual:
                del kept[key]
        return sha256_json({"generation": GENERATION, **kept})

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON-ready data."""
        return asdict(self)

    def _counts(self) -> list[str]:
        found = []
        if not 1 <= self.slides <= 99_999:
            found.append(f"slides is {self.slides}; expected: 1 to 99999")
        if not 1 <= self.tiles <= 999:
            found.append(f"tiles is {self.tiles}; expected: 1 to 999 of each slide")
        if not 0 <= self.seed < 2**63:
            found.append(f"seed is {self.seed}; expected: 0 to 2^63 - 1")
        if self.workers < 1:
            found.append(
                f"workers is {self.workers}; expected: 1 or more, or null for one per core"
            )
        if self.text not in TEXTS:
            found.append(f"text is {self.text!r}; expected: {', '.join(TEXTS)}")
        return found + self._summaries()

    def _summaries(self) -> list[str]:
        found = []
        if not 1 <= self.summaries <= _SUMMARIES:
            found.append(f"summaries is {self.summaries}; expected: 1 to {_SUMMARIES} of a report")
        if self.summary_of not in SUMMARIES_OF:
            found.append(f"summary_of is {self.summary_of!r}; expected: {', '.join(SUMMARIES_OF)}")
        if self.text != "caption" and (self.summaries, self.summary_of) != (1, "own"):
            found.append(
                f"text is {self.text!r}; expected: caption, as summaries and summary_of are of "
                "captions"
            )
        return found

    def _grid(self) -> list[str]:
        low, high = _MPP
        if not low <= self.mpp <= high:
            return [f"mpp is {self.mpp:g}; expected: {low:g} to {high:g} micrometres per pixel"]
        if not 1 <= self.pixels <= _LARGEST_PIXELS:
            return [f"pixels is {self.pixels}; expected: up to {_LARGEST_PIXELS} along a side"]
        if self.pixels * self.mpp < _SMALLEST_UM:
            return [
                f"pixels x mpp is {self.pixels * self.mpp:g} micrometres; expected: at least "
                f"{_SMALLEST_UM:g}, or hardly a nucleus would be in a tile"
            ]
        return []

    def _shares(self) -> list[str]:
        names = ("tumour_share", "til_share", "missing_probabilities", "val_share", "test_share")
        found = [
            f"{name} is {getattr(self, name)}; expected: 0 to 1"
            for name in names
            if not 0.0 <= getattr(self, name) <= 1.0
        ]
        if self.val_share + self.test_share >= 1.0:
            found.append(
                "val_share and test_share together leave nothing to train on; expected: below 1"
            )
        return found
