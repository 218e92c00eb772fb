"""FID on draws of patients, shared between the processes of a job.

An interval is made of hundreds of draws, a baseline of some splits. Which patients a draw holds
follows from (seed, name, number of the draw). Blocks of draws are dealt to the processes, each
block whole, so that no result depends on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxella.engine.runtime import all_gather_object
from voxella.errors import UserError
from voxella.evaluation.networks import kind_of
from voxella.evaluation.plan import Plan
from voxella.evaluation.sets import Sets
from voxella.metrics.bootstrap import baseline_draws, replicate_draws
from voxella.metrics.declared.number import distance_key
from voxella.metrics.distances.frechet import require_covariances
from voxella.metrics.distances.frechet_draws import draws_in_a_block, frechet_values
from voxella.metrics.resampling import Rows
from voxella.metrics.vectors import VectorSet
from voxella.progress import Steps
from voxella.ranks import Ranks
from voxella.recipe.evaluation import Evaluate

__all__ = ["Drawn", "drawn_distances", "require_baseline", "shared_values"]

Values = NDArray[np.float64]

# Patients: either half needs a covariance.
_SMALLEST_BASELINE = 4


@dataclass(frozen=True, eq=False)
class Drawn:
    """One network's FID on draws.

    Attributes:
        interval: By replicate of the bootstrap; None where there is no FID, or no interval.
        baseline: By split of the real cases; None where there are too few.
    """

    interval: Values | None
    baseline: Values | None


def drawn_distances(settings: Evaluate, seed: int, plan: Plan, ranks: Ranks) -> dict[str, Drawn]:
    """Return by the name of the distance (``fid_3d``...) its values on draws; collective.

    Every process holds the vectors of one network at a time.

    Args:
        settings: How many draws.
        seed: Of every draw.
        plan: All its volumes have been looked at.
        ranks: Who share the draws.
    """
    found = {}
    for network, extractor, suffix, sets in plan.compared():
        real, synthetic = plan.vectors(extractor, sets)
        name = distance_key("fid", kind_of(network)) + suffix
        draws = _interval_draws(settings, seed, sets, name, real, synthetic)
        splits = _baseline_draws(settings, seed, sets, name, real)
        values = [
            None if rows is None else shared_values(real, other, rows, count, ranks, what=what)
            for other, rows, count, what in (
                (synthetic, draws, settings.fid_bootstrap, f"evaluate: draws of {name}"),
                (real, splits, settings.baseline_halves, f"evaluate: baseline of {name}"),
            )
        ]
        found[name] = Drawn(*values)
    return found


def shared_values(
    real: VectorSet,
    synthetic: VectorSet,
    draws: Iterable[Sequence[Rows]],
    count: int,
    ranks: Ranks,
    *,
    what: str,
) -> Values:
    """Return the distance on each draw, computed in parts; collective.

    Args:
        real: The same on every process.
        synthetic: The same.
        draws: The same on every process, in the same order.
        count: Of them.
        ranks: Who share them.
        what: What progress is told as.
    """
    block_of = np.arange(count) // draws_in_a_block(real.dim)
    whose = block_of % ranks.world
    with Steps(what, int((whose == ranks.rank).sum()), quiet=not ranks.is_main) as steps:
        own = frechet_values(
            real,
            synthetic,
            draws,
            blocks=(ranks.rank, ranks.world),
            device=ranks.device,
            advance=steps.advance,
        )
    values = np.empty(count)
    for rank, part in enumerate(all_gather_object(own.tolist())):
        values[whose == rank] = part
    return values


def require_baseline(real: VectorSet) -> None:
    """Refuse real cases that make no two sets of which each has a covariance.

    Raises:
        UserError: There are too few patients.
    """
    patients = len(set(real.patients))
    if patients < _SMALLEST_BASELINE:
        raise UserError(
            f"{patients} real patients make no two sets to compare",
            expected=f"{_SMALLEST_BASELINE} and more",
        )


def _interval_draws(
    settings: Evaluate,
    seed: int,
    sets: Sets,
    name: str,
    real: VectorSet,
    synthetic: VectorSet,
) -> Iterable[Sequence[Rows]] | None:
    try:
        require_covariances(real, synthetic, settings.fid_singular)
        return replicate_draws(
            (real.patients, synthetic.patients),
            seed=seed,
            name=name,
            paired=sets.paired,
            replicates=settings.fid_bootstrap,
        )
    except UserError:
        # Said with the number, which is refused for the same reason.
        return None


def _baseline_draws(
    settings: Evaluate, seed: int, sets: Sets, name: str, real: VectorSet
) -> Iterable[Sequence[Rows]] | None:
    repeats, size = settings.baseline_halves, sets.floor_size
    try:
        require_baseline(real)
        return baseline_draws(real.patients, seed=seed, name=name, repeats=repeats, size=size)
    except UserError:
        return None
