"""How far a model's mean change follows the real one: where it lies, and how strong it is.

A single volume says little: a small, faint lesion drowns in what the sampler changes besides. The
mean change over cases is the effect of the fact; counting what a detector finds needs every single
volume to show it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxella.metrics.bootstrap import bootstrap, mean_estimate
from voxella.metrics.estimate import LEVEL, Estimate, joined
from voxella.metrics.resampling import Rows, rows_of_units
from voxella.philox import keyed_generator

__all__ = ["effect", "flip_probability"]

Rows2D = NDArray[np.floating]
Floats = NDArray[np.float64]

_SMALLEST = 2  # patients: of one there is no interval
_FLIPS = 4000
# Below this share of the real map's length a mean change is the rounding of float32.
_NOTHING = 1e-6


def effect(
    changes: Rows2D,
    real_maps: Rows2D,
    patients: Sequence[str],
    *,
    seed: int,
    name: str,
    replicates: int = 1000,
    level: float = LEVEL,
) -> tuple[Estimate, Estimate]:
    """Return the correlation of the mean change with the real one, and its contrast as a share.

    The share is the slope of the change on the real map, ``<s, c> / <c, c>`` with maps less their
    means: 1 is the real contrast, and what the sampler changes besides adds nothing to it on
    average, as it would to a ratio of two lengths. The real map is known from a few draws; the
    product of two DIFFERENT draws stands for ``<c, c>``, for a draw's product with itself holds
    what is by chance in it, and a perfect model would then seem to fall short.

    Args:
        changes: ``(N, V)``, one case a row: the volume after the change less the one before.
        real_maps: ``(D, V)``, two draws at least: the mean of the real changes in each.
        patients: Of the rows.
        seed: Of the draws.
        name: Of the draws: other numbers draw others.
        replicates: How many.
        level: Of the intervals.
    """
    how = f"mean change of {len(changes)} cases against the real one"
    n = len(set(patients))
    if n < _SMALLEST:
        nothing = Estimate.undefined(n, "two patients at least are needed", level=level, how=how)
        return nothing, nothing
    centred = _centred(real_maps)
    length = _length(centred)
    if length == 0.0:
        why = "the real volumes do not change, or two draws of them not alike"
        nothing = Estimate.undefined(n, why, level=level, how=how)
        return nothing, nothing
    rows = _centred(changes)
    slopes = rows @ centred.mean(axis=0) / length**2
    products = rows @ rows.T
    share = mean_estimate(
        slopes.tolist(), patients, seed=seed, name=name, replicates=replicates, level=level
    )
    chance = flip_probability(slopes, patients, seed=seed, name=name)
    told = f"a change without direction would reach this with probability {chance:.2g}"
    share = replace(share, how=f"{how}; {share.how}", note=joined(share.note, told))
    if math.sqrt(products.mean()) < _NOTHING * length:
        why = "the volumes do not change"
        return Estimate.undefined(n, why, level=level, how=how), share

    def correlation(rows: Rows) -> float:
        spread = math.sqrt(max(float(products[np.ix_(rows, rows)].mean()), 0.0))
        return float(slopes[rows].mean()) * length / spread if spread else math.nan

    # Repeated cases lengthen a replicate's mean change and so lower its correlation.
    found = bootstrap(
        correlation,
        patients,
        seed=seed,
        name=name,
        replicates=replicates,
        level=level,
        method="recentred",
    )
    return replace(_within_one(found), how=f"{how}; {found.how}"), share


def flip_probability(slopes: Floats, patients: Sequence[str], *, seed: int, name: str) -> float:
    """Return how often so large a mean comes about when each patient's sign is a coin's.

    The randomisation test of Fisher 1935 for paired differences, two-sided, by drawn signs; the
    observed signs count among the draws, so that it is never 0.
    """
    owned = rows_of_units(patients)
    sums = np.array([slopes[owned[name]].sum() for name in sorted(owned)])
    signs = keyed_generator(seed, f"{name}/signs").choice([-1.0, 1.0], size=(_FLIPS, len(sums)))
    reached = np.abs(signs @ sums) >= abs(sums.sum()) * (1 - 1e-12)
    return float((reached.sum() + 1) / (_FLIPS + 1))


def _centred(rows: Rows2D) -> Floats:
    """Return each row less its mean, in float64."""
    values = np.asarray(rows, dtype=np.float64)
    centred: Floats = values - values.mean(axis=1, keepdims=True)
    return centred


def _length(maps: Floats) -> float:
    """Return the length of what the draws have in common; 0 where they have nothing."""
    products = maps @ maps.T
    apart = ~np.eye(len(maps), dtype=bool)
    return math.sqrt(max(float(products[apart].mean()), 0.0))


def _within_one(found: Estimate) -> Estimate:
    """Return a correlation without what rounding, or moving its interval, has put beyond 1."""
    ends = (found.value, found.low, found.high)
    value, low, high = (None if end is None else min(max(end, -1.0), 1.0) for end in ends)
    return replace(found, value=value, low=low, high=high)
