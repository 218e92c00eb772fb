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

__all__ = ["ClassPredictions", "Predictions", "aligned", "predictions_of"]

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


@dataclass(frozen=True, eq=False)
class ClassPredictions:
    """Probabilities of several classes; build it with :meth:`of`, which checks them.

    Attributes:
        classes: Names, in order.
        ids: One per case, each once, sorted.
        truth: ``(N,)`` place of the case's class.
        scores: ``(N, K)`` probabilities.
        patients: ``(N,)`` names.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    truth: NDArray[np.int64]
    scores: NDArray[np.float64]
    patients: tuple[str, ...]

    @classmethod
    def of(
        cls,
        classes: Sequence[str],
        ids: Sequence[str],
        truth: Sequence[int],
        scores: Sequence[Sequence[float]],
        *,
        patients: Sequence[str] | None = None,
    ) -> ClassPredictions:
        """Return the predictions after checking them; see :meth:`Predictions.of`.

        Raises:
            UserError: As there; or a case has not one probability for each class, or a truth is
                the place of no class.
            ValueError: The lengths differ.
        """
        size = len(classes)
        wrong = [i for i, row in zip(ids, scores, strict=True) if len(row) != size]
        wrong += [i for i, place in zip(ids, truth, strict=True) if not 0 <= place < size]
        if wrong:
            raise UserError(
                f"{len(set(wrong))} case(s), such as {wrong[0]}, do not fit the {size} classes "
                f"{', '.join(classes)}",
                expected=f"{size} probabilities a case, and a truth from 0 to {size - 1}",
            )
        places, values = np.array(truth, np.int64), np.array(scores, np.float64).reshape(-1, size)
        for place in range(size):
            checked = Predictions.of(ids, places == place, values[:, place], patients=patients)
        order = sorted(range(len(ids)), key=lambda row: ids[row])
        return cls(tuple(classes), checked.ids, places[order], values[order], checked.patients)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def called(self) -> NDArray[np.int64]:
        """Return the place of each case's likeliest class, the first of equals."""
        return np.asarray(self.scores.argmax(axis=1))

    def against_rest(self, place: int) -> Predictions:
        """Return one class against all others."""
        return Predictions(self.ids, self.truth == place, self.scores[:, place], self.patients)


def predictions_of(
    classes: Sequence[str],
    positive: str | None,
    ids: Sequence[str],
    labels: Sequence[str],
    scores: Sequence[Sequence[float]],
    *,
    patients: Sequence[str],
) -> Predictions | ClassPredictions:
    """Return checked predictions: of the positive class against the rest, or of all classes.

    Args:
        classes: Names, in order.
        positive: The positive one; None: none is.
        ids: One per case.
        labels: Names of the cases' classes.
        scores: ``(N, K)`` probabilities.
        patients: One per case.

    Raises:
        UserError: As :meth:`Predictions.of` and :meth:`ClassPredictions.of`.
    """
    if positive is None:
        places = [classes.index(label) for label in labels]
        return ClassPredictions.of(classes, ids, places, scores, patients=patients)
    place = classes.index(positive)
    likely = [row[place] for row in scores]
    return Predictions.of(ids, [label == positive for label in labels], likely, patients=patients)


def aligned(first: Predictions | ClassPredictions, second: Predictions | ClassPredictions) -> None:
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
        both = isinstance(first, Predictions) and isinstance(second, Predictions)
        told = "are positive in one set and negative in the other" if both else "change class"
        raise UserError(
            f"{len(differing)} case(s) {told}: {names}",
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
        raise UserError("\n".join(problems), expected="one score in [0, 1] per labelled case")
