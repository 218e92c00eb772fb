"""Beside the distance: diversity, what of the real is covered, and intensities by tissue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxella.errors import UserError
from voxella.evaluation.extractors import EDGES
from voxella.evaluation.sets import Sets, Subject
from voxella.evaluation.volumes import read_subject
from voxella.metrics.bootstrap import real_baseline
from voxella.metrics.coverage import coverage_estimates, membership
from voxella.metrics.declared.contract import Features
from voxella.metrics.declared.measured import Measured, attempt, reason
from voxella.metrics.diversity import ms_ssim_diversity
from voxella.metrics.estimate import Estimate
from voxella.metrics.histogram import compare_bands, wasserstein, wasserstein_estimate
from voxella.metrics.resampling import Rows
from voxella.metrics.vectors import VectorSet
from voxella.recipe.evaluation import Evaluate

__all__ = ["bands", "coverage", "diversity", "histogram_distance"]

_COVERAGE = ("precision", "recall", "density", "coverage")
_NEAR, _DENSE = 3, 5


def coverage(
    settings: Evaluate, seed: int, sets: Sets, features: Features, device: torch.device
) -> dict[str, Measured]:
    """Return precision, recall, density and coverage of one network's features.

    Arguments as of :func:`voxella.evaluation.distances.distances`.
    """
    real, synthetic = features.real, features.synthetic
    try:
        found = coverage_estimates(
            real,
            synthetic,
            seed=seed,
            name="coverage",
            precision_k=_NEAR,
            density_k=_DENSE,
            replicates=settings.bootstrap,
            level=settings.level,
            device=device,
        )
    except UserError as refusal:
        nothing = Estimate.undefined(sets.n, reason(refusal), level=settings.level)
        found = dict.fromkeys(_COVERAGE, nothing)
    statistic = _membership_statistic(real, device)

    def floor(metric: str) -> Estimate:
        return real_baseline(
            lambda first, second: statistic(metric, first, second),
            real.patients,
            seed=seed,
            name="coverage",
            repeats=settings.baseline_halves,
            size=sets.floor_size,
            level=settings.level,
        )

    return {
        metric: Measured(
            found[metric],
            sets.split,
            features.network,
            features.comparable_with_paper,
            attempt(partial(floor, metric), n=sets.n, level=settings.level),
        )
        for metric in _COVERAGE
    }


def _membership_statistic(
    real: VectorSet, device: torch.device
) -> Callable[[str, Rows, Rows], float]:
    """Return the four numbers of real cases against others; those of one split together."""
    known: dict[bytes, dict[str, float]] = {}

    def statistic(metric: str, first: Rows, second: Rows) -> float:
        key = first.tobytes() + second.tobytes()
        if key not in known:
            known[key] = _four(_rows(real, first), _rows(real, second), device)
        return known[key][metric]

    return statistic


def _four(first: VectorSet, second: VectorSet, device: torch.device) -> dict[str, float]:
    near = membership(first, second, _NEAR, device=device)
    dense = membership(first, second, _DENSE, device=device)
    return {
        "precision": float((near.balls > 0).mean()),
        "recall": float(near.reached.mean()),
        "density": float(dense.balls.mean() / _DENSE),
        "coverage": float(dense.visited.mean()),
    }


def _rows(vectors: VectorSet, rows: Rows) -> VectorSet:
    return VectorSet(
        vectors.values[rows],
        tuple(vectors.ids[row] for row in rows),
        tuple(vectors.patients[row] for row in rows),
        vectors.what,
    )


def diversity(
    settings: Evaluate, seed: int, sets: Sets, channels: slice, device: torch.device
) -> Measured:
    """Return ``ms_ssim``: of synthetic pairs, with that of as many real pairs as its baseline."""

    def measured(subjects: Sequence[Subject], name: str) -> Estimate:
        by_id = {subject.id: subject for subject in subjects}

        def load(case: str) -> Tensor:
            volume = read_subject(by_id[case])[channels].to(device)
            # A single slice is an image of two axes.
            return volume[..., 0] if volume.shape[-1] == 1 else volume

        return ms_ssim_diversity(
            load,
            list(by_id),
            seed=seed,
            name=name,
            patients=[subject.group for subject in subjects],
            pairs=settings.ms_ssim_pairs,
            replicates=settings.bootstrap,
            level=settings.level,
        )

    value, floor = (
        attempt(
            partial(measured, subjects, name),
            n=len(subjects),
            level=settings.level,
        )
        for subjects, name in ((sets.synthetic, "ms_ssim"), (sets.real, "ms_ssim/real"))
    )
    return Measured(value, sets.split, floor=floor)


def histogram_distance(
    settings: Evaluate, seed: int, sets: Sets, real: VectorSet, synthetic: VectorSet
) -> Measured:
    """Return ``histogram_distance``: Wasserstein, in intensity, over all foreground voxels.

    Args:
        settings: How sure the number is to be.
        seed: Of every draw.
        sets: Whose histograms these are.
        real: One histogram a row.
        synthetic: The same.
    """
    counts = [np.asarray(v.values, dtype=np.float64) for v in (real, synthetic)]

    def between(first: Rows, second: Rows) -> float:
        return wasserstein(counts[0][first].sum(axis=0), counts[0][second].sum(axis=0), EDGES)

    estimate = attempt(
        lambda: wasserstein_estimate(
            counts[0],
            counts[1],
            EDGES,
            real.patients,
            synthetic.patients,
            paired=sets.paired,
            replicates=settings.bootstrap,
            level=settings.level,
            seed=seed,
            name="histogram",
        ),
        n=sets.n,
        level=settings.level,
    )
    floor = attempt(
        lambda: real_baseline(
            between,
            real.patients,
            repeats=settings.baseline_halves,
            size=sets.floor_size,
            level=settings.level,
            seed=seed,
            name="histogram",
        ),
        n=sets.n,
        level=settings.level,
    )
    return Measured(estimate, sets.split, floor=floor)


def bands(real: VectorSet, synthetic: VectorSet) -> list[dict[str, object]] | str:
    """Return each band of tissue, dark to bright, or why there are none."""
    pooled: list[NDArray[np.float64]] = [
        np.asarray(v.values, dtype=np.float64).sum(axis=0) for v in (real, synthetic)
    ]
    try:
        return [band.as_json() for band in compare_bands(pooled[0], pooled[1], EDGES)]
    except UserError as refusal:
        return reason(refusal)
