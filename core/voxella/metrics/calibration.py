"""Whether a probability of 0.7 comes true seven times in ten.

By hand: scikit-learn's ``calibration_curve`` leaves empty ranges out and does not say how many
cases a range has, which its interval needs. A test holds the two to the same values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxella.metrics.estimate import LEVEL, Estimate, wilson
from voxella.metrics.predictions import Predictions

__all__ = ["CalibrationBin", "brier_score", "calibration_curve", "expected_calibration_error"]

_BINS = 10


@dataclass(frozen=True)
class CalibrationBin:
    """The cases whose probability lies in one range.

    Attributes:
        low: Where the range starts, included.
        high: Where it ends, excluded except for 1.
        predicted: Mean probability; None without cases.
        observed: Share of positives, with Wilson's interval.
    """

    low: float
    high: float
    predicted: float | None
    observed: Estimate

    def as_json(self) -> dict[str, Any]:
        """Return the bin as JSON-ready data."""
        return {
            "low": self.low,
            "high": self.high,
            "predicted": self.predicted,
            "observed": self.observed.as_json(),
        }


def calibration_curve(
    predictions: Predictions, *, bins: int = _BINS, level: float = LEVEL
) -> list[CalibrationBin]:
    """Return the reliability diagram, ranges of equal width (DeGroot and Fienberg 1983)."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    places = _places(predictions.scores, bins)
    curve = []
    for place in range(bins):
        inside = places == place
        scores = predictions.scores[inside]
        curve.append(
            CalibrationBin(
                float(edges[place]),
                float(edges[place + 1]),
                float(scores.mean()) if len(scores) else None,
                wilson(
                    int(predictions.truth[inside].sum()),
                    len(scores),
                    level=level,
                    why="no case has such a probability",
                ),
            )
        )
    return curve


def brier_score(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return the mean squared error of the probabilities (Brier 1950, for the positive class)."""
    return float(np.mean((scores - truth) ** 2))


def expected_calibration_error(
    truth: NDArray[np.bool_], scores: NDArray[np.float64], *, bins: int = _BINS
) -> float:
    """Return the mean distance of observed share and mean probability over the bins' cases.

    Naeini et al. 2015 (AAAI), on the probability of the positive class and bins of equal width.
    Above zero even for a perfect classifier: with few cases a bin's share is noisy.
    """
    places = _places(scores, bins)
    difference = np.bincount(places, weights=scores - truth, minlength=bins)
    return float(np.abs(difference).sum() / len(scores))


def _places(scores: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    return np.minimum((scores * bins).astype(np.int64), bins - 1)
