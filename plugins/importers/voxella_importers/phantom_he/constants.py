"""The detector's constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LYMPHOCYTE", "TUMOUR", "Rule"]


@dataclass(frozen=True)
class Rule:
    """A linear rule: the logit is ``offset`` + the sum of weights x features.

    Attributes:
        offset: Of the logit.
        weights: One of each feature.
    """

    offset: float
    weights: tuple[float, ...]

    def probability(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(...)`` probabilities of features ``(..., k)``."""
        logit = np.full(features.shape[:-1], self.offset)
        for number, weight in enumerate(self.weights):
            logit += weight * features[..., number]
        return np.asarray(1 / (1 + np.exp(-np.clip(logit, -60, 60))))


TUMOUR = Rule(
    offset=-10.576,
    weights=(
        11.826,
        -0.864,
        -7.285,
        4.484,
        -0.614,
        10.163,
        -3.165,
        -0.172,
        7.533,
        0.422,
        6.078,
        -0.509,
    ),
)
LYMPHOCYTE = Rule(
    offset=-6.997, weights=(-5.11, -1.654, 81.034, -23.739, 16.028, -12.017, 4.377, -2.29, -2.454)
)
