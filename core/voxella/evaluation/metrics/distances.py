"""Metric ``distances``: KID and FID of every feature network, real against synthetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from voxella.metrics.declared.number import GROUPS, Number
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from voxella.evaluation.draws import Drawn
    from voxella.evaluation.evidence import SampleEvidence
    from voxella.metrics.declared.measured import Measured

__all__ = ["Distances", "voxella_factory"]

# Kind of features -> before and after the distance's name in a heading, and in the label.
_KINDS = {
    "3d": ("3D ", "", "3D"),
    "2d_sagittal": ("2D ", " sagittal", "2D sagittal"),
    "2d_coronal": ("2D ", " coronal", "2D coronal"),
    "2d_axial": ("2D ", " axial", "2D axial"),
}


def _declared(distance: str, kind: str) -> Number:
    before, after, short = _KINDS[kind]
    key = f"{distance}_{kind}"
    return Number(
        key,
        label=f"{distance.upper()}, {short} features",
        heading=f"{before}{distance.upper()}{after}",
        better="lower",
        group=GROUPS[0],
        paper_key=key if distance == "fid" else None,
        family=distance,
    )


class Distances:
    """The headline KID, and FID beside it; each with that of real cases against other real ones."""

    numbers = tuple(_declared(distance, kind) for kind in _KINDS for distance in ("kid", "fid"))
    needs = frozenset(f"features_{kind}" for kind in _KINDS)

    def __init__(self) -> None:
        self._drawn: Mapping[str, Drawn] = {}

    def share(self, evidence: SampleEvidence) -> None:
        """Compute FID on draws, each process its part; collective."""
        from voxella.evaluation.draws import drawn_distances

        self._drawn = drawn_distances(
            evidence.settings, evidence.seed, evidence.plan, evidence.ranks
        )

    def measure(self, evidence: SampleEvidence) -> dict[str, Measured]:
        """Return KID and FID, one network at a time: slices of many cases fill a memory."""
        from voxella.evaluation.distances import distances
        from voxella.metrics.declared.measured import Measured
        from voxella.metrics.estimate import Estimate

        sets, level = evidence.sets, evidence.level
        nothing = Estimate.undefined(sets.n, "the images are single slices", level=level)
        found: dict[str, Measured] = {}
        for kind in _KINDS:
            features = evidence.features(kind)
            if features is not None:
                found |= distances(
                    evidence.settings,
                    evidence.seed,
                    sets,
                    kind,
                    features,
                    evidence.device,
                    self._drawn,
                )
        absent = [number.key for number in self.numbers if number.key not in found]
        return found | {key: Measured(nothing, sets.split) for key in absent}


def distances() -> Distances:
    """Build the metric."""
    return Distances()


@hookimpl
def voxella_factory(name: str) -> Callable[..., Distances] | None:
    """Return the builder of ``distances``."""
    return distances if name == "distances" else None
