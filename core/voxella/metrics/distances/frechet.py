"""FID: the Fréchet distance between two sets of feature vectors, its interval and its baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.metrics.bootstrap import baseline_draws, baseline_estimate, bootstrap, replicate_draws
from voxella.metrics.distances.frechet_draws import frechet_statistic, frechet_values
from voxella.metrics.estimate import LEVEL, Estimate, joined
from voxella.metrics.vectors import VectorSet, same_width

__all__ = ["frechet_baseline", "frechet_estimate", "rank_problem", "require_covariances"]

Device = torch.device | str
Values = NDArray[np.float64]


def rank_problem(n: int, dim: int) -> str | None:
    """Say why ``n`` vectors of ``dim`` numbers give no sound distance, or None where they do.

    The rule: N > d. Otherwise the covariance has rank N - 1 < d and the distance sees only the
    directions that the sample happens to span (Heusel et al. ask for more samples than features
    in the notes to their code). Above d it is still biased, by an amount that depends on N and on
    the model (Chong and Forsyth 2020, arXiv 1911.07023), so compare only at equal N.
    """
    if n > dim:
        return None
    return (
        f"{n} vectors of {dim} features: their covariance has rank {n - 1} at most, "
        "so the Fréchet distance is too large by an amount that depends on N and on the model"
    )


def require_covariances(
    real: VectorSet, synthetic: VectorSet, singular: Literal["refuse", "note"]
) -> str | None:
    """Return :func:`rank_problem` of two sets, where it is not refused.

    Raises:
        UserError: N <= d and ``singular`` is ``refuse``, or N < 2; or the vectors differ in width.
    """
    same_width(real, synthetic)
    fewest = min(len(real), len(synthetic))
    if fewest < 2:
        raise UserError(f"a set of {fewest} vector has no covariance", expected="two and more")
    problem = rank_problem(fewest, real.dim)
    if problem is not None and singular == "refuse":
        raise UserError(
            problem,
            expected=f"more than {real.dim} vectors in each set",
            remedy="report the kernel distance (KID), which is unbiased at any N",
        )
    return problem


def frechet_estimate(
    real: VectorSet,
    synthetic: VectorSet,
    *,
    seed: int,
    name: str,
    paired: bool = False,
    replicates: int = 200,
    level: float = LEVEL,
    singular: Literal["refuse", "note"] = "refuse",
    device: Device = "cpu",
    drawn: Values | None = None,
) -> Estimate:
    """Return the Fréchet distance with a recentred bootstrap interval over patients.

    Args:
        real: Vectors of real cases.
        synthetic: Vectors of synthetic ones, from the same network.
        seed: With ``name``, decides the draws.
        name: Of the number.
        paired: Real and synthetic cases share their patients (one volume per report).
        replicates: Draws; 0: no interval.
        level: Coverage.
        singular: What to do where N <= d, see :func:`rank_problem`. ``note`` is for repeating a
            published number that was taken this way, such as the paper's 3D FID (740 cases, 2048
            features); the estimate then carries a warning.
        device: Where the products and decompositions are computed.
        drawn: The distance on each draw, where that is known; None: it is computed here.

    Raises:
        UserError: N <= d and ``singular`` is ``refuse``, or N < 2; or the vectors differ in width.
    """
    problem = require_covariances(real, synthetic, singular)
    distance = frechet_statistic(real, synthetic, device=device)
    how = f"Fréchet distance of {_told(real)} and {_told(synthetic)}"
    if replicates == 0:
        value = distance(np.arange(len(real)), np.arange(len(synthetic)))
        n = min(len(set(real.patients)), len(set(synthetic.patients)))
        return Estimate(value, None, None, n, level, how, problem, problem)
    groups = (real.patients, synthetic.patients)
    if drawn is None:
        draws = replicate_draws(groups, seed=seed, name=name, paired=paired, replicates=replicates)
        drawn = frechet_values(real, synthetic, draws, device=device)
    found = bootstrap(
        distance,
        *groups,
        seed=seed,
        name=name,
        paired=paired,
        replicates=replicates,
        level=level,
        method="recentred",
        at_least=0.0,
        drawn=drawn,
    )
    return replace(
        found, how=f"{how}; {found.how}", note=joined(problem, found.note), warning=problem
    )


def frechet_baseline(
    real: VectorSet,
    *,
    seed: int,
    name: str,
    repeats: int = 20,
    size: int | None = None,
    level: float = LEVEL,
    device: Device = "cpu",
    drawn: Values | None = None,
) -> Estimate:
    """Return the distance of real cases from other real cases; see :func:`real_baseline`.

    Where the sets are too small for the features, the baseline is noted to be so, never refused: it
    then says how far from zero a perfect generator would be put.

    Args:
        real: Vectors of real cases.
        seed: With ``name``, decides the splits.
        name: Of the number.
        repeats: Splits.
        size: Patients in each set; None: half of all.
        level: Share of the splits between ``low`` and ``high``.
        device: Where the products and decompositions are computed.
        drawn: The distance of each split, where that is known; None: it is computed here.

    Raises:
        UserError: There are not enough patients.
    """
    if drawn is None:
        draws = baseline_draws(real.patients, seed=seed, name=name, repeats=repeats, size=size)
        drawn = frechet_values(real, real, draws, device=device)
    found = baseline_estimate(drawn, real.patients, size=size, level=level)
    rows = found.n * len(real) // len(set(real.patients))
    note = joined(rank_problem(rows, real.dim), found.note)
    return replace(found, note=note)


def _told(vectors: VectorSet) -> str:
    rows = "" if len(vectors) == vectors.cases else f" ({len(vectors)} vectors)"
    return f"{vectors.cases} {vectors.what} cases{rows}"
