"""Metric ``distances``: KID and FID of every feature network, real against synthetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from voxella.metrics.declared.number import GROUPS, HELD_OUT, PICTURES, Number, distance_key
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from voxella.evaluation.draws import Drawn
    from voxella.evaluation.evidence import SampleEvidence
    from voxella.metrics.declared.measured import Measured

__all__ = ["Distances", "voxella_factory"]

# Beside pictures made from training captions stand those from captions that training has not seen.
_UNSEEN = " of held-out cases"
# Features that pictures and single slices have not.
_OF_VOLUMES = ("3d", "2d_sagittal", "2d_coronal")
# Kind of features -> before and after the distance's name in a heading, and in the label.
_KINDS = {
    "3d": ("3D ", "", "3D"),
    PICTURES: ("", "", "picture"),
    "2d_sagittal": ("2D ", " sagittal", "2D sagittal"),
    "2d_coronal": ("2D ", " coronal", "2D coronal"),
    "2d_axial": ("2D ", " axial", "2D axial"),
}


def _declared(distance: str, kind: str) -> Number:
    before, after, short = _KINDS[kind]
    key = distance_key(distance, kind)
    return Number(
        key,
        label=f"{distance.upper()}, {short} features",
        heading=f"{before}{distance.upper()}{after}",
        better="lower",
        group=GROUPS[0],
        paper_key=key if distance == "fid" else None,
        # PathLDM's (arXiv 2309.00748, section 4) is of captions of its training set.
        paper_split="train" if kind == PICTURES else "test",
        family=distance,
    )


def _held_out(distance: str) -> Number:
    seen = _declared(distance, PICTURES)
    return replace(
        seen,
        key=seen.key + HELD_OUT,
        label=seen.label + _UNSEEN,
        heading=f"{seen.heading} held out",
        paper_key=None,
        family="",
    )


class Distances:
    """The headline KID, and FID beside it; each with that of real cases against other real ones."""

    numbers = (
        *(_declared(distance, kind) for kind in _KINDS for distance in ("kid", "fid")),
        *(_held_out(distance) for distance in ("kid", "fid")),
    )
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
        found: dict[str, Measured] = {}
        for kind in _KINDS:
            features = evidence.features(kind)
            if features is None:
                continue
            for suffix, compared in evidence.plan.comparisons(kind):
                if suffix:
                    features = evidence.features(kind, compared)
                assert features is not None, "of the same network as a moment ago"
                found |= distances(
                    evidence.settings,
                    evidence.seed,
                    compared,
                    kind,
                    features,
                    evidence.device,
                    self._drawn,
                    suffix,
                )
        nothing = Estimate.undefined(sets.n, "the images are single slices", level=level)
        volumes = [number.key for number in self.numbers if number.key.endswith(_OF_VOLUMES)]
        absent = {key: Measured(nothing, sets.split) for key in volumes if key not in found}
        return found | absent


def distances() -> Distances:
    """Build the metric."""
    return Distances()


@hookimpl
def voxella_factory(name: str) -> Callable[..., Distances] | None:
    """Return the builder of ``distances``."""
    return distances if name == "distances" else None
