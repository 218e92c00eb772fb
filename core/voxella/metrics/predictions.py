"""What a classifier said about each case and what is true, checked once and kept by case id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.wording import listed

__all__ = ["Predictions", "aligned"]

_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities of the positive class; build it with :meth:`of`, which checks them.

    Attributes:
        ids: One per case, each once, sorted: no number depends on the order of the rows.
        truth: ``(N,)``, whether the case is positive.
        scores: ``(N,)`` probability of the positive class.
        patients: ``(N,)`` names; cases of one patient are not independent.
    """

    ids: tuple[str, ...]
    truth: NDArray[np.bool_]
    scores: NDArray[np.float64]
    patients: tuple[str, ...]

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        truth: Sequence[Any] | NDArray[Any],
        scores: Sequence[float] | NDArray[np.floating],
        *,
        patients: Sequence[str] | None = None,
    ) -> Predictions:
        """Return the predictions after checking them.

        Args:
            ids: One per case.
            truth: 0 and 1, or booleans.
            scores: In [0, 1].
            patients: None: every case is its own patient.

        Raises:
            UserError: Ids are repeated, a truth is neither 0 nor 1, a score is no probability, or
                there are no cases; all at once, by case id.
            ValueError: The lengths differ.
        """
        labels, values = np.asarray(truth), np.asarray(scores, dtype=np.float64)
        owners = ids if patients is None else patients
        if not len(ids) == len(labels) == len(values) == len(owners):
            lengths = (len(ids), len(labels), len(values), len(owners))
            raise ValueError(f"ids, labels, scores and patients differ in number: {lengths}")
        _refuse(ids, labels, values)
        order = sorted(range(len(ids)), key=lambda row: ids[row])
        return cls(
            tuple(str(ids[row]) for row in order),
            labels.astype(bool)[order],
            values[order],
            tuple(str(owners[row]) for row in order),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def positive(self, threshold: float) -> NDArray[np.bool_]:
        """Return which cases are called positive: a score ABOVE the threshold.

        At 0.5 this is the larger of two class probabilities; a tie is negative, as with argmax.
        """
        return np.asarray(self.scores > threshold)


def aligned(first: Predictions, second: Predictions) -> None:
    """Check that two classifiers were asked about the same cases with the same truth.

    Raises:
        UserError: They were not; the cases are named.
    """
    only = [sorted(set(a.ids) - set(b.ids)) for a, b in ((first, second), (second, first))]
    if only[0] or only[1]:
        raise UserError(
            "a paired test needs predictions for the same cases: "
            f"{len(only[0])} only in the first ({listed(only[0], _SHOWN) or 'none'}), "
            f"{len(only[1])} only in the second ({listed(only[1], _SHOWN) or 'none'})",
            remedy="predict the same test cases with both",
        )
    differing = np.flatnonzero(first.truth != second.truth)
    if len(differing):
        names = listed((first.ids[row] for row in differing), _SHOWN)
        raise UserError(
            f"{len(differing)} case(s) are positive in one set and negative in the other: {names}",
            remedy="take the labels of both from one manifest",
        )


def _refuse(ids: Sequence[str], truth: NDArray[np.generic], scores: NDArray[np.float64]) -> None:
    if len(ids) == 0:
        raise UserError("there are no predictions", remedy="look at the split's cases")
    repeated = [str(name) for name, times in Counter(ids).items() if times > 1]
    labelled, likely = np.isin(truth, [0, 1]), (scores >= 0) & (scores <= 1)
    no_label = [str(name) for name, good in zip(ids, labelled, strict=True) if not good]
    outside = [str(name) for name, good in zip(ids, likely, strict=True) if not good]
    found = {
        "predicted more than once": repeated,
        "with a truth that is neither 0 nor 1": no_label,
        "with a score that is no probability (NaN, or outside 0 to 1)": outside,
    }
    problems = [f"{len(n)} case(s) {what}: {listed(n, _SHOWN)}" for what, n in found.items() if n]
    if problems:
        raise UserError("\n".join(problems), legal="one score in [0, 1] per labelled case")
