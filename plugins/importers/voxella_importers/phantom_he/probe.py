"""Probe ``phantom_he``: tumour and lymphocytes from pixels, for tiles of the H&E phantom.

Light to import: the detector is imported when an image is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxella.case import Case, Manifest
from voxella.plugins.contracts import Probe
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from voxella.detection import Detection, Facts

__all__ = ["PhantomHEProbe", "phantom_he", "voxella_factory"]

_COLOURS = 3
_COARSEST = 4.0  # micrometres per pixel


@dataclass
class PhantomHEProbe:
    """The tiles' detector behind the contract of a probe.

    What is told and found: ``present`` is a high level of tumour; ``levels`` has the words of
    ``tumor`` and ``til``, low or high, at the phantom's own thresholds.
    """

    fingerprint: str
    mpp: float
    spatial_dims: Collection[int] = (2,)

    def told(self, dataset: Manifest, case: Case) -> Facts | None:
        """Return what a tile's caption tells; None for a case of another source.

        A level whose probability is missing is not told.

        Raises:
            UserError: The slide's truth is gone or cannot be read.
        """
        from voxella.detection import Facts
        from voxella_importers.phantom_he.truth import read_slide

        if case.truth is None or case.label_source != "phantom_he":
            return None
        slide = read_slide(dataset.folder / case.truth)
        tile = next((tile for tile in slide.tiles if tile.id == case.id), None)
        if tile is None:
            return None
        known = {"tumor": tile.prob_tumor, "til": tile.prob_til}
        levels = {name: _word(p >= 0.5) for name, p in known.items() if p is not None}
        return Facts(levels.get("tumor") == "high", levels=levels)

    def look(self, image: NDArray[np.floating], spacing_mm: tuple[float, ...] | None) -> Detection:
        """Return what a tile shows.

        Args:
            image: ``(3, n, m)`` in [0, 1]; one without colours shows nothing.
            spacing_mm: Edges of a pixel; None stands for the probe's own micrometres per pixel. In
                pixels that are coarser than 4 micrometres no nucleus can be seen: the probe is
                blind.
        """
        from voxella.detection import Detection, Facts
        from voxella_importers.phantom_he.detect import look_at_tile
        from voxella_importers.phantom_he.truth import TIL_PER_MM2, TUMOUR

        if image.ndim != 3 or image.shape[0] != _COLOURS:
            return Detection(Facts(present=False), blind=True)
        mpp = self.mpp if spacing_mm is None else 1000 * sum(spacing_mm) / len(spacing_mm)
        if not 0 < mpp <= _COARSEST:
            return Detection(Facts(present=False), blind=True)
        seen = look_at_tile(image.transpose(1, 2, 0), mpp)
        levels = {
            "tumor": _word(seen.tumour >= TUMOUR),
            "til": _word(seen.til_per_mm2 >= TIL_PER_MM2),
        }
        numbers = {"tumor_share": seen.tumour, "til_per_mm2": seen.til_per_mm2}
        found = Facts(levels["tumor"] == "high", levels=levels)
        return Detection(found, blind=seen.blank, details=numbers)


def _word(high: bool) -> str:
    return "high" if high else "low"


def phantom_he(*, mpp: float = 1.0) -> Probe:
    """Build the probe of H&E tiles.

    Args:
        mpp: Micrometres per pixel of images that do not say their spacing.

    Raises:
        UserError: ``mpp`` is out of range.
    """
    from voxella.errors import UserError
    from voxella_importers.phantom_he.detect import DETECTOR

    if not 0.2 <= mpp <= _COARSEST:
        raise UserError(f"probe phantom_he: mpp is {mpp:g}", expected="0.2 to 4")
    return PhantomHEProbe(f"phantom_he {DETECTOR} {mpp:g}", mpp)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return phantom_he if name == "phantom_he" else None
