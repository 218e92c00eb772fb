"""The difference of two recipes that were trained several times, from the cases of all trainings.

Patients are drawn, or left out, in every training of both recipes at once; see
:mod:`voxella.study.two_level` for what becomes of the trainings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from voxella.metrics.bootstrap import replicate_draws
from voxella.metrics.distances.kernel import PatientKernels
from voxella.metrics.estimate import LEVEL
from voxella.metrics.predictions import ClassPredictions, Predictions, aligned
from voxella.study.differences import Draws, units_of, without_each
from voxella.study.prediction_differences import mean_score
from voxella.study.two_level import (
    TwoLevelEstimate,
    covariance_of_draws,
    covariance_without_each,
    two_level,
)

__all__ = ["repeated_frechet", "repeated_kernels", "repeated_predictions"]

Runs = Sequence[Predictions | ClassPredictions]


def repeated_kernels(
    left: Sequence[PatientKernels], right: Sequence[PatientKernels], *, level: float = LEVEL
) -> TwoLevelEstimate:
    """Return the difference of two recipes in KID; each patient is left out of all sets.

    Args:
        left: Of each training of one recipe, with the same real cases.
        right: Of the other.
        level: Coverage.
    """
    every = [*left, *right]
    units = units_of(every)
    covariance = covariance_without_each(np.stack([without_each(one, units) for one in every]))
    values = [np.array([one.distance() for one in side]) for side in (left, right)]
    n = min(len(names) for one in every for names in one.patients)
    return two_level(values, covariance, n=n, level=level, how="difference of mean KID; jackknife")


def repeated_frechet(
    left: Sequence[Draws], right: Sequence[Draws], *, n: int, level: float = LEVEL
) -> TwoLevelEstimate | None:
    """Return the difference of two recipes in FID on the same draws of patients.

    Args:
        left: Of each training of one recipe.
        right: Of the other.
        n: Patients behind the smallest set.
        level: Coverage.

    Returns:
        None where the runs drew different patients, or none.
    """
    every = [*left, *right]
    if any(one.patients != every[0].patients or len(one.drawn) < 2 for one in every):
        return None
    drawn = np.stack([one.drawn for one in every])
    if np.isfinite(drawn).all(axis=0).sum() < 2:
        return None
    values = [np.array([one.value for one in side]) for side in (left, right)]
    how = f"difference of mean FID; two-level bootstrap, {drawn.shape[1]} draws of patients"
    return two_level(values, covariance_of_draws(drawn), n=n, level=level, how=how)


def repeated_predictions(
    metric: str,
    left: Sequence[Runs],
    right: Sequence[Runs],
    *,
    seed: int,
    replicates: int,
    level: float = LEVEL,
) -> TwoLevelEstimate | None:
    """Return the difference of two recipes' classifiers, or text heads, on the same cases.

    Args:
        metric: As in :func:`voxella.study.prediction_differences.prediction_difference`.
        left: Of each training of one recipe: the predictions of its classifiers.
        right: Of the other.
        seed: With the metric, decides the draws.
        replicates: Draws of patients.
        level: Coverage.

    Returns:
        None where the metric is not defined on these cases, or on most draws of them.

    Raises:
        UserError: The cases or their truths differ.
    """
    every = [*left, *right]
    first = every[0][0]
    for other in (one for runs in every for one in runs):
        aligned(first, other)
    scores = [mean_score(metric, runs) for runs in every]
    whole = np.arange(len(first.ids))
    values = np.array([score(whole) for score in scores])
    draws = replicate_draws(
        [first.patients], seed=seed, name=f"study/{metric}", paired=False, replicates=replicates
    )
    drawn = np.array([[score(rows) for score in scores] for (rows,) in draws]).T
    if not np.isfinite(values).all() or np.isfinite(drawn).all(axis=0).mean() < 0.9:
        return None
    how = f"difference of means; two-level bootstrap, {replicates} draws of patients"
    return two_level(
        [values[: len(left)], values[len(left) :]],
        covariance_of_draws(drawn),
        n=len(set(first.patients)),
        level=level,
        how=how,
    )
