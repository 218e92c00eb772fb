"""What can be asked of the phantom, and what of it decides a single case.

Random numbers that depend on what they are for, never on when they are drawn.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from voxella.hashing import sha256_json
from voxella.limits import VOXELS

__all__ = ["PhantomSettings", "ReportStyle", "fraction", "in_share", "stream"]

# Raise this whenever the same settings give another volume, truth or report, so that an older
# data set is generated anew and not silently mixed with newer cases.
GENERATION = 1

# Half a small gland: no voxel of it would be met on a coarser grid.
_COARSEST_MM = 20
# A 100 ml gland with its jitter and tilt must lie inside the volume.
_SMALLEST_FOV_MM = (84.0, 76.0, 72.0)
_LESION_RANGE_MM = (5, 25)
# PI-RADS 3 starts here: a fainter lesion would make a positive case negative.
_LEAST_SUSPICIOUS = 0.36

ReportStyle = Literal["free", "short"]

# One irrational per question, independent of each other over the rationals, so that the answers to
# two questions about the same case do not go together.
_IRRATIONALS = {"positive": 5, "missing_report": 2, "label_noise": 3, "oblique": 7}


@dataclass(frozen=True)
class PhantomSettings:
    """The builder's arguments, see :func:`voxella_importers.phantom.plugin.phantom`."""

    cases: int
    seed: int
    spacing_mm: tuple[float, ...]
    size: tuple[int, ...]
    positive_share: float
    missing_reports: float
    label_noise: float
    val_share: float
    test_share: float
    second_lesion_share: float
    benign_focus_share: float
    lesion_size_mm: tuple[int, ...]
    oblique_share: float
    workers: int
    # Those below are part of the hash only where they are not the defaults: data sets from before
    # are those without them.
    lesion_conspicuity: tuple[float, ...] | None = None
    peripheral_share: float = 0.7
    report_style: ReportStyle = "free"

    def problems(self) -> list[str]:
        """Return every fault of these settings, each as one line that says what is allowed."""
        return [
            *self._counts(),
            *self._shares(),
            *self._grid(),
            *self._lesion_sizes(),
            *self._looks(),
        ]

    def case_hash(self) -> str:
        """Return the hash of what decides a case's content: not the count, split or workers."""
        irrelevant = {"cases", "workers", "val_share", "test_share"}
        usual = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        kept = {
            key: value
            for key, value in asdict(self).items()
            if key not in irrelevant and not (key in usual and value == usual[key])
        }
        return sha256_json({"generation": GENERATION, **kept})

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON-ready data."""
        return asdict(self)

    def _counts(self) -> list[str]:
        found = []
        if not 1 <= self.cases <= 99_999:
            found.append(f"cases is {self.cases}; expected: 1 to 99999")
        if not 0 <= self.seed < 2**63:
            found.append(f"seed is {self.seed}; expected: 0 to 2^63 - 1")
        if self.workers < 1:
            found.append(
                f"workers is {self.workers}; expected: 1 or more, or null for one per core"
            )
        return found

    def _shares(self) -> list[str]:
        names = (
            "positive_share",
            "missing_reports",
            "label_noise",
            "val_share",
            "test_share",
            "second_lesion_share",
            "benign_focus_share",
            "oblique_share",
            "peripheral_share",
        )
        found = [
            f"{name} is {getattr(self, name)}; expected: 0 to 1"
            for name in names
            if not 0.0 <= getattr(self, name) <= 1.0
        ]
        if self.val_share + self.test_share >= 1.0:
            found.append(
                "val_share and test_share together leave nothing to train on; expected: < 1"
            )
        return found

    def _grid(self) -> list[str]:
        if len(self.size) != 3 or len(self.spacing_mm) != 3:
            return ["size and spacing_mm need three numbers each, along R, A and S"]
        found = []
        if min(self.size) < 8 or any(voxels != int(voxels) for voxels in self.size):
            found.append(f"size is {list(self.size)}; expected: whole numbers of voxels, 8 or more")
        elif (voxels := math.prod(self.size)) > VOXELS.most:
            found.append(
                f"size is {list(self.size)}, {voxels:,} voxels; expected: at most {VOXELS.most:,} "
                f"({VOXELS.remedy(voxels)})"
            )
        if not all(0 < step <= _COARSEST_MM for step in self.spacing_mm):
            found.append(
                f"spacing_mm is {list(self.spacing_mm)}; expected: above 0 and up to "
                f"{_COARSEST_MM} mm"
            )
        for axis, voxels, step, least in zip(
            "RAS", self.size, self.spacing_mm, _SMALLEST_FOV_MM, strict=True
        ):
            if voxels * step < least:
                found.append(
                    f"size x spacing_mm along {axis} is {voxels * step:g} mm;"
                    f" expected: at least {least:g} mm, or a large gland would not fit"
                )
        return found

    def _lesion_sizes(self) -> list[str]:
        low, high = _LESION_RANGE_MM
        if (
            len(self.lesion_size_mm) == 2
            and low <= self.lesion_size_mm[0] <= self.lesion_size_mm[1] <= high
            and all(value == int(value) for value in self.lesion_size_mm)
        ):
            return []
        return [
            f"lesion_size_mm is {list(self.lesion_size_mm)};"
            f" expected: smallest and largest, whole mm from {low} to {high}"
        ]

    def _looks(self) -> list[str]:
        found = []
        given = self.lesion_conspicuity
        if given is not None and not (
            len(given) == 2 and _LEAST_SUSPICIOUS <= given[0] <= given[1] <= 1
        ):
            found.append(
                f"lesion_conspicuity is {list(given)}; expected: lowest and highest, from"
                f" {_LEAST_SUSPICIOUS} to 1, or null for a mixture"
            )
        if self.report_style not in (styles := get_args(ReportStyle)):
            found.append(f"report_style is {self.report_style}; expected: {' or '.join(styles)}")
        return found


def _digest(seed: int, *names: str) -> bytes:
    return hashlib.sha256("\x1f".join([str(seed), *names]).encode()).digest()


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the generator that belongs to (seed, names): the same wherever it is asked for."""
    return np.random.default_rng(int.from_bytes(_digest(seed, *names)[:16], "big"))


def fraction(seed: int, *names: str) -> float:
    """Return a number in [0, 1) that is fixed by (seed, names)."""
    return int.from_bytes(_digest(seed, *names)[:8], "big") / 2.0**64


def in_share(seed: int, question: str, index: int, share: float) -> bool:
    """Return whether case ``index`` is among the ``share`` of cases a question selects.

    A Weyl sequence, ``frac(offset + index * sqrt(n))``: its discrepancy falls as log(N) / N, so
    even a few dozen cases hold close to the share that was asked for, which independent coins do
    not, and the answer for a case does not depend on how many others there are.
    """
    offset = fraction(seed, "share", question)
    return math.fmod(offset + index * math.sqrt(_IRRATIONALS[question]), 1.0) < share
