"""Intensities of real and synthetic volumes: histograms, bands of tissue, distances.

A volume whose anatomy looks right may still be too dark or lack contrast in one tissue. Tissue is
told by intensity alone: bands between percentiles of the REAL foreground, dark to bright.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from voxella.errors import UserError
from voxella.metrics.bootstrap import bootstrap
from voxella.metrics.estimate import LEVEL, Estimate
from voxella.metrics.resampling import Rows

__all__ = [
    "BANDS",
    "Band",
    "band_edges",
    "compare_bands",
    "intensity_counts",
    "jensen_shannon",
    "wasserstein",
    "wasserstein_estimate",
]

# Percentiles of the real foreground that part the bands.
BANDS = (0.0, 25.0, 50.0, 75.0, 95.0, 100.0)

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """One band of intensities, real against synthetic.

    Attributes:
        percentiles: Of the real foreground, from and to.
        low: Where it starts, in intensity.
        high: Where it ends.
        share_real: Share of the real foreground's voxels; near the percentiles' difference.
        share_synthetic: Share of the synthetic foreground's.
        wasserstein: Between the two histograms within the band, in intensity; None where one is
            empty.
        jensen_shannon: The same, 0 to 1.
    """

    percentiles: tuple[float, float]
    low: float
    high: float
    share_real: float
    share_synthetic: float
    wasserstein: float | None
    jensen_shannon: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the band as JSON-ready data."""
        return asdict(self)


def intensity_counts(volume: NDArray[np.floating], edges: Counts, above: float = 0.0) -> Counts:
    """Return how many foreground voxels fall between the ``edges``, ``(B,)``.

    Args:
        volume: Any shape, finite.
        edges: ``(B + 1,)`` rising. Voxels beyond the ends count in the outer bins.
        above: The foreground is what is brighter.
    """
    foreground = volume[volume > above].clip(edges[0], edges[-1])
    return np.histogram(foreground, bins=edges)[0].astype(np.float64)


def wasserstein(first: Counts, second: Counts, edges: Counts) -> float:
    """Return the Wasserstein-1 distance of two histograms, in units of intensity.

    ``integral |F - G|`` (Vallender 1974) with each bin's mass at its centre.
    """
    centres = (edges[:-1] + edges[1:]) / 2
    return float(wasserstein_distance(centres, centres, _normalised(first), _normalised(second)))


def jensen_shannon(first: Counts, second: Counts) -> float:
    """Return the Jensen-Shannon distance of two histograms, base 2: 0 equal, 1 disjoint.

    The square root of the divergence (Lin 1991), which is a metric (Endres and Schindelin 2003).
    """
    p, q = _normalised(first), _normalised(second)
    middle = (p + q) / 2
    divergence = (_divergence(p, middle) + _divergence(q, middle)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def band_edges(
    real: Counts, edges: Counts, percentiles: Sequence[float] = BANDS
) -> NDArray[np.int64]:
    """Return the numbers of the bin edges nearest to the real foreground's percentiles.

    Raises:
        UserError: The bins are too wide to part the bands.
    """
    reached = np.concatenate([[0.0], np.cumsum(_normalised(real))]) * 100.0
    found = np.abs(reached[None, :] - np.asarray(percentiles)[:, None]).argmin(axis=1)
    # Bins outside the real intensities belong to the outer bands: synthetic voxels may lie there.
    found[0], found[-1] = 0, len(real)
    if np.any(np.diff(found) < 1):
        raise UserError(
            f"{len(real)} bins from {edges[0]:g} to {edges[-1]:g} cannot part the real intensities "
            f"at the percentiles {', '.join(f'{p:g}' for p in percentiles)}",
            remedy="use more bins, a narrower range, or fewer bands",
        )
    return np.asarray(found, dtype=np.int64)


def compare_bands(
    real: Counts, synthetic: Counts, edges: Counts, percentiles: Sequence[float] = BANDS
) -> list[Band]:
    """Return each band of the real foreground, dark to bright, with what the synthetic has there.

    Args:
        real: ``(B,)`` foreground voxels of all real cases per bin.
        synthetic: The same for synthetic ones.
        edges: ``(B + 1,)``.
        percentiles: Rising, from 0 to 100.

    Raises:
        UserError: A set has no foreground, or the bins are too wide.
    """
    bounds = band_edges(real, edges, percentiles)
    p, q = _normalised(real), _normalised(synthetic)
    bands = []
    for limits, (start, stop) in zip(pairwise(percentiles), pairwise(bounds), strict=True):
        inside, within = slice(start, stop), edges[start : stop + 1]
        both = p[inside].sum() > 0 and q[inside].sum() > 0
        bands.append(
            Band(
                limits,
                float(within[0]),
                float(within[-1]),
                float(p[inside].sum()),
                float(q[inside].sum()),
                wasserstein(p[inside], q[inside], within) if both else None,
                jensen_shannon(p[inside], q[inside]) if both else None,
            )
        )
    return bands


def wasserstein_estimate(
    real: Counts,
    synthetic: Counts,
    edges: Counts,
    real_patients: Sequence[str],
    synthetic_patients: Sequence[str],
    *,
    seed: int,
    name: str,
    paired: bool = False,
    replicates: int = 1000,
    level: float = LEVEL,
) -> Estimate:
    """Return the distance of the pooled histograms with a bootstrap interval over patients.

    Args:
        real: ``(N, B)``, one histogram per case.
        synthetic: ``(M, B)``.
        edges: ``(B + 1,)``.
        real_patients: Of each real case.
        synthetic_patients: Of each synthetic case.
        seed: With ``name``, decides the draws.
        name: Of the number.
        paired: Real and synthetic cases share their patients.
        replicates: Draws.
        level: Coverage.
    """

    def distance(first: Rows, second: Rows) -> float:
        return wasserstein(real[first].sum(axis=0), synthetic[second].sum(axis=0), edges)

    return bootstrap(
        distance,
        real_patients,
        synthetic_patients,
        seed=seed,
        name=name,
        paired=paired,
        replicates=replicates,
        level=level,
        method="recentred",
        at_least=0.0,
    )


def _normalised(counts: Counts) -> Counts:
    total = counts.sum()
    if total <= 0:
        raise UserError("a histogram is empty: there is no foreground", remedy="look at the images")
    return np.asarray(counts / total, dtype=np.float64)


def _divergence(p: Counts, q: Counts) -> float:
    """Return the Kullback-Leibler divergence in bits; ``q`` is positive where ``p`` is."""
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))
