"""Synthetic vectors that are too near to one training case: suspected copies of patients.

Distance alone does not tell: a typical volume is near to many. As in Carlini et al. 2023 (arXiv
2301.13188, section 5) the nearest training case is compared with the next ones, and as in Dar et
al. 2023 (arXiv 2307.01148, 3D medical volumes; Somepalli et al. 2023, arXiv 2212.03860, for
pictures) what is too near is learnt from real cases that the model has never seen: they cannot be
copies, so however near they come is chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.metrics.estimate import LEVEL, Estimate, clopper_pearson, joined
from voxella.metrics.vectors import VectorSet, nearest, same_width

__all__ = ["Memorisation", "NearestCase", "isolation", "memorisation"]

# Neighbours after the nearest that say how dense the training set is there; Carlini et al. take 50.
_NEIGHBOURS = 50
# A ratio of which rounding may be the only cause: the same image twice, whatever the threshold.
_COPY = 1e-4


@dataclass(frozen=True)
class NearestCase:
    """A synthetic case and the training case nearest to it.

    Attributes:
        synthetic: Id.
        training: Id.
        distance: Euclidean, in the vectors' units.
        ratio: Distance over the mean distance of the next training cases; 0 is an exact copy.
        p_value: Share of real unseen cases at least as near, corrected for their number.
        suspected: Nearer than the threshold, or the same but for rounding.
    """

    synthetic: str
    training: str
    distance: float
    ratio: float
    p_value: float
    suspected: bool


@dataclass(frozen=True)
class Memorisation:
    """How many synthetic cases are suspected copies, and which.

    Attributes:
        share: Of synthetic cases below the threshold, Clopper-Pearson interval.
        false_alarms: Share to be expected below it if nothing is copied.
        threshold: On the ratio.
        worst: The nearest pairs, nearest first.
        own_source: Of the synthetic cases made from the report of a training case, the share whose
            nearest training case is that very one; None if the sources were not given. Without
            copying it is near 1 / training cases, more where reports tell much; 1 if all are
            copies.
    """

    share: Estimate
    false_alarms: float
    threshold: float
    worst: tuple[NearestCase, ...]
    own_source: Estimate | None

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON-ready data."""
        return asdict(self)


def memorisation(
    synthetic: VectorSet,
    training: VectorSet,
    unseen: VectorSet,
    *,
    false_alarms: float = 0.05,
    neighbours: int = _NEIGHBOURS,
    sources: Mapping[str, str] | None = None,
    shown: int = 10,
    level: float = LEVEL,
    device: torch.device | str = "cpu",
) -> Memorisation:
    """Return the share of synthetic cases that lie nearer to training than unseen real ones do.

    The threshold is the ``floor(a (N + 1))``-th smallest ratio of the N unseen cases (at least the
    smallest), so that a new real case falls below it with probability ``k / (N + 1)``: a conformal
    p-value (Vovk et al. 2005). The share is evidence of copying as far as its interval lies above
    ``false_alarms``; a ratio near 0 is a copy whatever the share.

    Args:
        synthetic: One vector per synthetic case: latents, or features.
        training: The model's training cases.
        unseen: Real cases of OTHER patients than the training cases'.
        false_alarms: Wanted; with fewer than ``1 / false_alarms - 1`` unseen cases more than that.
        neighbours: After the nearest; fewer where the training set is smaller.
        sources: Real case whose report each synthetic case was made from.
        shown: Pairs to name.
        level: Coverage.
        device: Where the products are computed.

    Raises:
        UserError: Vectors differ in width, there are fewer than three training cases, or a patient
            of an unseen case is in training.
    """
    same_width(training, synthetic)
    same_width(training, unseen)
    _refuse_shared(training, unseen)
    distances, ratios, rows = isolation(synthetic, training, neighbours, device=device)
    reference = np.sort(isolation(unseen, training, neighbours, device=device)[1])
    rank = max(1, int(np.floor(false_alarms * (len(reference) + 1))))
    threshold = float(reference[rank - 1])
    expected = rank / (len(reference) + 1)
    suspected = ratios < max(threshold, _COPY)
    p_values = (1 + np.searchsorted(reference, ratios, side="right")) / (len(reference) + 1)
    worst = [
        NearestCase(
            synthetic.ids[row],
            training.ids[int(rows[row])],
            float(distances[row]),
            float(ratios[row]),
            float(p_values[row]),
            bool(suspected[row]),
        )
        for row in np.argsort(ratios, kind="stable")[:shown]
    ]
    share = clopper_pearson(int(suspected.sum()), len(ratios), level=level)
    how = f"{share.how}; calibrated on {len(reference)} unseen real cases"
    copies = int(np.count_nonzero(reference < _COPY))
    note = joined(
        f"{expected:.3g} expected by chance",
        _coarse(expected, false_alarms),
        f"{copies} unseen case(s) are themselves copies of training cases" if copies else None,
    )
    found = [training.ids[int(row)] for row in rows]
    return Memorisation(
        Estimate(share.value, share.low, share.high, share.n, level, how, note),
        expected,
        threshold,
        tuple(worst),
        None if sources is None else _own_source(synthetic.ids, found, sources, training, level),
    )


def isolation(
    queries: VectorSet,
    training: VectorSet,
    neighbours: int = _NEIGHBOURS,
    *,
    device: torch.device | str = "cpu",
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the distance to the nearest training vector, the ratio, and that vector's row.

    The ratio (Carlini et al. 2023, section 5.1, with alpha 1): distance to the nearest over the
    mean distance to the ``neighbours`` next ones. 1 is no nearer to one than to all, 0 a copy.

    Args:
        queries: Synthetic or unseen vectors.
        training: At least three.
        neighbours: Fewer where the training set is smaller.
        device: Where the products are computed.

    Raises:
        UserError: There are fewer than three training vectors.
    """
    if len(training) < 3:
        raise UserError(
            f"{len(training)} training vectors: nearest and next ones cannot be compared",
            expected="at least three",
        )
    k = min(neighbours, len(training) - 1)
    distances, rows = nearest(queries.values, training.values, k + 1, device=device)
    around = distances[:, 1:].mean(axis=1)
    # Where all neighbours are at distance 0 the query is a copy of each of them.
    ratios = np.divide(distances[:, 0], around, out=np.zeros(len(around)), where=around > 0)
    return distances[:, 0], ratios, rows[:, 0]


def _refuse_shared(training: VectorSet, unseen: VectorSet) -> None:
    shared = set(training.patients) & set(unseen.patients)
    if shared:
        cases = [c for c, p in zip(unseen.ids, unseen.patients, strict=True) if p in shared]
        raise UserError(
            f"{len(cases)} unseen case(s) are of patients in training, such as {cases[0]}: "
            "they are near to it for that reason",
            remedy="split by patient",
        )


def _coarse(expected: float, wanted: float) -> str | None:
    if expected <= wanted:
        return None
    return f"too few unseen cases for {wanted:g}: the threshold is their nearest one"


def _own_source(
    ids: tuple[str, ...],
    found: list[str],
    sources: Mapping[str, str],
    training: VectorSet,
    level: float,
) -> Estimate:
    # A source that the model has not learnt from cannot be nearest among training cases.
    learnt = set(training.ids)
    known = [
        (sources[case], near)
        for case, near in zip(ids, found, strict=True)
        if sources.get(case) in learnt
    ]
    own = sum(source == near for source, near in known)
    why = "no synthetic case was made from the report of a training case"
    return clopper_pearson(own, len(known), level=level, why=why)
