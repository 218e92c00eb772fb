"""Metrics ``coverage``, ``diversity`` and ``histogram``: what the synthetic cases spread over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from voxella.metrics.declared.number import GROUPS, Direction, Number
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from voxella.evaluation.evidence import SampleEvidence
    from voxella.metrics.declared.measured import Measured

__all__ = ["Coverage", "Diversity", "Histograms", "voxella_factory"]


def _declared(
    key: str, label: str, heading: str, better: Direction, *, bounded: bool = True
) -> Number:
    return Number(key, label, heading, better, GROUPS[1], bounded=bounded)


class Coverage:
    """Precision, recall, density and coverage of the features of volumes."""

    numbers = (
        _declared("precision", "Precision", "precision", "higher"),
        _declared("recall", "Recall", "recall", "higher"),
        _declared("density", "Density", "density", "higher", bounded=False),
        _declared("coverage", "Coverage", "coverage", "higher"),
    )
    needs = frozenset({"features"})

    def measure(self, evidence: SampleEvidence) -> dict[str, Measured]:
        """Return the four numbers."""
        from voxella.evaluation.diversity import coverage

        features = evidence.features()
        if features is None:
            return {}
        return coverage(evidence.settings, evidence.seed, evidence.sets, features, evidence.device)


class Diversity:
    """How alike two synthetic volumes are, beside how alike two real ones are."""

    numbers = (
        _declared("ms_ssim", "MS-SSIM between synthetic volumes", "MS-SSIM between volumes", ""),
    )
    needs = frozenset({"images"})

    def measure(self, evidence: SampleEvidence) -> dict[str, Measured]:
        """Return ``ms_ssim``."""
        from voxella.evaluation.diversity import diversity

        plan, settings = evidence.plan, evidence.settings
        channels = slice(plan.channel, plan.channel + plan.count)
        measured = diversity(settings, evidence.seed, evidence.sets, channels, evidence.device)
        return {"ms_ssim": measured}


class Histograms:
    """How far intensities of the foreground lie apart."""

    numbers = (
        _declared(
            "histogram_distance",
            "Intensity histogram, Wasserstein",
            "histogram distance",
            "lower",
            bounded=False,
        ),
    )
    needs = frozenset({"histograms"})

    def measure(self, evidence: SampleEvidence) -> dict[str, Measured]:
        """Return ``histogram_distance``; the bands of tissue are facts."""
        from voxella.evaluation.diversity import bands, histogram_distance

        real, synthetic = evidence.histograms()
        evidence.facts["tissue_bands"] = bands(real, synthetic)
        measured = histogram_distance(
            evidence.settings, evidence.seed, evidence.sets, real, synthetic
        )
        return {"histogram_distance": measured}


def coverage() -> Coverage:
    """Build the metric."""
    return Coverage()


def diversity() -> Diversity:
    """Build the metric."""
    return Diversity()


def histogram() -> Histograms:
    """Build the metric."""
    return Histograms()


@hookimpl
def voxella_factory(name: str) -> Callable[..., Coverage | Diversity | Histograms] | None:
    """Return the builder of one of the three."""
    builders: dict[str, Callable[..., Coverage | Diversity | Histograms]] = {
        "coverage": coverage,
        "diversity": diversity,
        "histogram": histogram,
    }
    return builders.get(name)
