"""Probe ``phantom``: the analytic detector, for cases whose labels come from the phantom.

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

    from voxella.detection import Counterfactual, Detection, Facts

__all__ = ["PhantomProbe", "phantom", "voxella_factory"]


@dataclass
class PhantomProbe:
    """The phantom's detector behind the contract of a probe."""

    fingerprint: str
    spatial_dims: Collection[int] = (3,)

    def told(self, dataset: Manifest, case: Case) -> Facts | None:
        """Return what a phantom's report tells; None for a case of another source.

        Raises:
            UserError: The case's truth is gone or cannot be read.
        """
        from voxella_importers.phantom.detector.detect import told_by
        from voxella_importers.phantom.truth import read_truth

        if case.truth is None or case.label_source != "phantom":
            return None
        return told_by(read_truth(dataset.folder / case.truth))

    def counterfactuals(self, dataset: Manifest, case: Case) -> list[Counterfactual]:
        """Return a phantom with one fact changed at a time; none of a case of another source.

        Raises:
            UserError: The data set's record of how it was made cannot be read.
        """
        from voxella_importers.phantom.counterfactual import counterfactuals

        if case.truth is None or case.label_source != "phantom":
            return []
        return counterfactuals(dataset, case)

    def look(self, image: NDArray[np.floating], spacing_mm: tuple[float, ...]) -> Detection:
        """Return what an image ``(R, A, S)`` in [0, 1] shows; edges along R, A, S."""
        from voxella.detection import Detection
        from voxella_importers.phantom.detector.detect import found_by, look_for_lesion

        r, a, s = spacing_mm
        seen = look_for_lesion(image, (r, a, s))
        numbers = {"score": seen.score, "likeness": seen.similarity, "volume_ml": seen.volume_ml}
        return Detection(found_by(seen), blind=not seen.gland_seen, details=numbers)


def phantom() -> Probe:
    """Build the phantom's probe."""
    from voxella_importers.phantom.detector.detect import DETECTOR

    return PhantomProbe(f"phantom {DETECTOR}")


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return phantom if name == "phantom" else None
