"""Which rows a replicate is made of: patients drawn whole, from a seed and a name.

A draw depends on (seed, name) and on the units' names, never on the order of the rows: units are
sorted by name before they are drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxella.errors import UserError

__all__ = ["ClusterResampler", "Rows", "halves", "has_repeats", "rows_of_units"]

Rows = NDArray[np.int64]


def has_repeats(groups: Sequence[str]) -> bool:
    """Return whether some unit owns several rows, so that rows are not independent."""
    return len(set(groups)) < len(groups)


class ClusterResampler:
    """Units to draw with replacement, each with all its rows in every sample.

    Independent samples have units of their own; paired samples share them, so that a patient who
    is drawn brings along the rows of all samples (a real scan and the volume made from its report).

    Args:
        groups: For each sample, the unit (patient or case) of each of its rows.
        paired: Whether the samples share their units.

    Raises:
        UserError: A sample has no rows, or paired samples have no unit in common.
    """

    def __init__(self, groups: Sequence[Sequence[str]], *, paired: bool) -> None:
        if any(len(sample) == 0 for sample in groups):
            raise UserError("a set of cases is empty: there is nothing to resample")
        owned = [rows_of_units(sample) for sample in groups]
        if paired and not set.intersection(*(set(rows) for rows in owned)):
            raise UserError(
                "the sets to be compared case by case have no case in common",
                remedy="compare them as independent sets, or name their cases alike",
            )
        self.samples = len(groups)
        self.sizes = [len(sample) for sample in groups]
        drawn_together = [list(range(self.samples))] if paired else [[s] for s in range(len(owned))]
        self._clusters = [self._clusters_of(owned, samples) for samples in drawn_together]

    def _clusters_of(self, owned: list[dict[str, Rows]], samples: list[int]) -> list[list[Rows]]:
        """Return the units of some samples, sorted by name; each as its rows in every sample."""
        nothing = np.empty(0, dtype=np.int64)
        names = sorted({name for sample in samples for name in owned[sample]})
        return [
            [owned[s].get(name, nothing) if s in samples else nothing for s in range(self.samples)]
            for name in names
        ]

    @property
    def cluster_counts(self) -> list[int]:
        """Return how many units each sample, or all paired ones, has."""
        return [len(clusters) for clusters in self._clusters]

    def draw(self, generator: np.random.Generator) -> list[Rows]:
        """Return the rows of each sample after drawing the units once with replacement."""
        picks = [
            generator.integers(len(clusters), size=len(clusters)) for clusters in self._clusters
        ]
        return self._gather(picks)

    def _gather(self, picks: Sequence[NDArray[np.int64]]) -> list[Rows]:
        units = [
            clusters[unit]
            for clusters, chosen in zip(self._clusters, picks, strict=True)
            for unit in chosen
        ]
        nothing = [np.empty(0, dtype=np.int64)]
        return [
            np.concatenate(nothing + [unit[sample] for unit in units])
            for sample in range(self.samples)
        ]


def halves(
    groups: Sequence[str], generator: np.random.Generator, *, size: int | None = None
) -> tuple[Rows, Rows]:
    """Return two sets of rows that share no unit, of about equal size.

    Args:
        groups: The unit of each row.
        generator: Decides the order in which units are dealt.
        size: Units in each set; None: half of all.

    Raises:
        UserError: There are not enough units.
    """
    owned = rows_of_units(groups)
    size = len(owned) // 2 if size is None else size
    if size < 1 or 2 * size > len(owned):
        raise UserError(
            f"two sets of {max(size, 1)} patients cannot be made of {len(owned)}",
            remedy="give more cases, or ask for smaller sets",
        )
    names = sorted(owned)
    order = [names[position] for position in generator.permutation(len(names))]
    first, second = order[:size], order[size : 2 * size]
    return (
        np.concatenate([owned[name] for name in first]),
        np.concatenate([owned[name] for name in second]),
    )


def rows_of_units(groups: Sequence[str]) -> dict[str, Rows]:
    """Return the rows of each unit."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, unit in enumerate(groups):
        rows[str(unit)].append(row)
    return {unit: np.asarray(numbers, dtype=np.int64) for unit, numbers in rows.items()}
