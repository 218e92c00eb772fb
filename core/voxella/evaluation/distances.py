"""KID and FID of every feature network, each with the real-vs-real baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from voxella.evaluation.draws import Drawn, require_baseline
from voxella.evaluation.sets import Sets
from voxella.metrics.declared.contract import Features
from voxella.metrics.declared.measured import Measured, attempt
from voxella.metrics.declared.number import distance_key
from voxella.metrics.distances.frechet import frechet_baseline, frechet_estimate
from voxella.metrics.distances.kernel import (
    PatientKernels,
    patient_kernel_baseline,
    patient_kernel_estimate,
    patient_kernels,
)
from voxella.metrics.estimate import Estimate
from voxella.metrics.vectors import VectorSet
from voxella.recipe.evaluation import Evaluate

__all__ = ["distances", "thinned"]

# Vectors of a set that KID takes: a kernel of so many rows and columns is minutes on two cores.
_KID_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Two sets of vectors of one network, and how they are to be compared."""

    settings: Evaluate
    seed: int
    sets: Sets
    features: Features
    device: torch.device
    drawn: Drawn

    @property
    def _both(self) -> tuple[VectorSet, VectorSet]:
        return self.features.real, self.features.synthetic

    @cached_property
    def kernels(self) -> PatientKernels:
        few = [thinned(vectors, _KID_ROWS) for vectors in self._both]
        return patient_kernels(few[0], few[1], device=self.device)

    def kid(self, name: str) -> Estimate:
        level = self.settings.level
        return patient_kernel_estimate(self.kernels, paired=self.sets.paired, level=level)

    def kid_baseline(self, name: str) -> Estimate:
        return patient_kernel_baseline(
            self.kernels,
            seed=self.seed,
            name=name,
            repeats=self.settings.baseline_halves,
            size=self.sets.floor_size,
            level=self.settings.level,
        )

    def fid(self, name: str) -> Estimate:
        return frechet_estimate(
            *self._both,
            seed=self.seed,
            name=name,
            paired=self.sets.paired,
            replicates=self.settings.fid_bootstrap,
            level=self.settings.level,
            singular=self.settings.fid_singular,
            device=self.device,
            drawn=self.drawn.interval,
        )

    def fid_baseline(self, name: str) -> Estimate:
        require_baseline(self.features.real)
        return frechet_baseline(
            self.features.real,
            seed=self.seed,
            name=name,
            repeats=self.settings.baseline_halves,
            size=self.sets.floor_size,
            level=self.settings.level,
            device=self.device,
            drawn=self.drawn.baseline,
        )

    def measured(
        self, name: str, value: Callable[[str], Estimate], floor: Callable[[str], Estimate]
    ) -> Measured:
        n, level = self.sets.n, self.settings.level
        return Measured(
            attempt(lambda: value(name), n=n, level=level),
            self.sets.split,
            self.features.network,
            self.features.comparable_with_paper,
            attempt(lambda: floor(name), n=n, level=level),
        )


def distances(
    settings: Evaluate,
    seed: int,
    sets: Sets,
    kind: str,
    features: Features,
    device: torch.device,
    drawn: Mapping[str, Drawn],
    suffix: str = "",
) -> dict[str, Measured]:
    """Return ``kid_*`` and ``fid_*`` of one network.

    Args:
        settings: How sure the numbers are to be.
        seed: Of every draw.
        sets: Whose vectors these are.
        kind: ``3d``, ``2d_sagittal``...: how the network's numbers are named.
        features: The vectors.
        device: Where products are computed, in float64.
        drawn: FID on the draws of its interval and floor, by ``fid_*``.
        suffix: Of the names: which cases these are.
    """
    kid, fid = (distance_key(distance, kind) + suffix for distance in ("kid", "fid"))
    compared = _Comparison(settings, seed, sets, features, device, drawn[fid])
    return {
        kid: compared.measured(kid, compared.kid, compared.kid_baseline),
        fid: compared.measured(fid, compared.fid, compared.fid_baseline),
    }


def thinned(vectors: VectorSet, most: int) -> VectorSet:
    """Return every k-th slice of each case, so that at most about ``most`` vectors are left."""
    step = math.ceil(len(vectors) / most)
    if step == 1:
        return vectors
    each = len(vectors) // vectors.cases
    kept = [row for row in range(len(vectors)) if row % each % step == min(step, each) // 2]
    rows = np.array(kept)
    return VectorSet(
        vectors.values[rows],
        tuple(vectors.ids[row] for row in kept),
        tuple(vectors.patients[row] for row in kept),
        vectors.what,
    )
