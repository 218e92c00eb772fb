"""Agreement of readers beyond chance: Cohen's kappa of two, Fleiss' kappa of more.

Cohen 1960, Educational and Psychological Measurement 20:37; weighted: Cohen 1968, Psychological
Bulletin 70:213; Fleiss 1971, Psychological Bulletin 76:378. Intervals: percentile bootstrap over
cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxella.metrics.bootstrap import bootstrap
from voxella.metrics.estimate import LEVEL, Estimate
from voxella.metrics.resampling import Rows

__all__ = ["agreement", "cohen_kappa", "fleiss_kappa"]

Ratings = NDArray[np.int64]


def cohen_kappa(ratings: Ratings, categories: int, *, ordered: bool = False) -> float:
    """Return the kappa of two readers; NaN where chance alone would agree on every case.

    In place of scikit-learn's, which gives the same numbers a hundred times as slowly: an interval
    asks for thousands.

    Args:
        ratings: ``(N, 2)`` numbers of categories, from 0.
        categories: How many there are.
        ordered: Weigh a disagreement by its square, as for scores from 1 to 5.
    """
    places = np.arange(categories)
    table = np.bincount(ratings[:, 0] * categories + ratings[:, 1], minlength=categories**2)
    seen = table.reshape(categories, categories)
    expected = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / len(ratings)
    apart = places[:, None] - places[None]
    cost = apart**2 if ordered else (apart != 0)
    by_chance = float((cost * expected).sum())
    return 1.0 - float((cost * seen).sum()) / by_chance if by_chance else float("nan")


def fleiss_kappa(ratings: Ratings, categories: int) -> float:
    """Return the kappa of any number of readers; NaN where all answers are of one category.

    Args:
        ratings: ``(N, readers)`` numbers of categories, from 0; two readers and more.
        categories: How many there are.
    """
    readers = ratings.shape[1]
    counts = (ratings[:, :, None] == np.arange(categories)).sum(axis=1)  # (N, categories)
    shares = counts.sum(axis=0) / counts.sum()
    expected = float((shares**2).sum())
    if expected == 1.0:
        return float("nan")
    pairs = (counts * (counts - 1)).sum(axis=1) / (readers * (readers - 1))
    return (float(pairs.mean()) - expected) / (1.0 - expected)


def agreement(
    ratings: Ratings,
    groups: Sequence[str],
    categories: int,
    *,
    seed: int,
    name: str,
    ordered: bool = False,
    replicates: int = 1000,
    level: float = LEVEL,
) -> Estimate:
    """Return the readers' kappa with its interval over cases.

    Args:
        ratings: ``(N, readers)`` numbers of categories, from 0: cases that all have answered.
        groups: The patient of each case.
        categories: How many there are.
        seed: With ``name``, decides the draws.
        name: Of the number.
        ordered: Of two readers, weigh a disagreement by its square. Fleiss' kappa has no order.
        replicates: Draws.
        level: Coverage.
    """
    readers = ratings.shape[1] if ratings.ndim == 2 else 0
    if readers < 2 or len(ratings) == 0:
        why = "one reader agrees with nobody" if readers < 2 else "no case was read by all"
        return Estimate.undefined(len(set(groups)), why, level=level)

    def statistic(rows: Rows) -> float:
        if readers == 2:
            return cohen_kappa(ratings[rows], categories, ordered=ordered)
        return fleiss_kappa(ratings[rows], categories)

    found = bootstrap(statistic, groups, seed=seed, name=name, replicates=replicates, level=level)
    kind = "Cohen's kappa" if readers == 2 else f"Fleiss' kappa of {readers} readers"
    if readers == 2 and ordered:
        kind += ", quadratic weights"
    note = found.note
    if found.value is None:
        note = "all answers are of one category: there is no agreement beyond chance to be measured"
    return replace(found, how=f"{kind}; {found.how}", note=note)
