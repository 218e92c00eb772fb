"""Claims such as "A is below B in FID": yes, no or undecided, with the difference that decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from voxella.metrics.estimate import Estimate

__all__ = ["Answer", "Verdict", "judged"]

Answer = Literal["yes", "no", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """What the data say about a claim.

    Attributes:
        claim: In words, such as ``fid3d: ccella below base``.
        answer: ``yes`` or ``no`` only where the whole interval of the difference lies on one side
            of zero.
        difference: Left side of the claim minus its right side.
    """

    claim: str
    answer: Answer
    difference: Estimate

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as JSON-ready data."""
        return {
            "claim": self.claim,
            "answer": self.answer,
            "difference": self.difference.as_json(),
        }

    def __str__(self) -> str:
        d = self.difference
        if d.value is None:
            return f"{self.claim}: {self.answer} ({d.note}; N {d.n})"
        if d.low is None or d.high is None:
            return f"{self.claim}: {self.answer} (difference {d.value:.3g}, no interval, N {d.n})"
        return f"{self.claim}: {self.answer} ({d.value:.3g}, {d.low:.3g} to {d.high:.3g}, N {d.n})"


def judged(claim: str, difference: Estimate, *, side: Literal["below", "above"]) -> Verdict:
    """Return the verdict on "left is below (above) right" from ``left - right``.

    Without an interval, and with one that holds zero, the claim is undecided: no evidence of a
    difference is not evidence of none.

    Args:
        claim: In words.
        difference: Left minus right.
        side: What the claim says of left.
    """
    answer: Answer = "undecided"
    if difference.low is not None and difference.high is not None:
        if difference.high < 0:
            answer = "yes" if side == "below" else "no"
        elif difference.low > 0:
            answer = "no" if side == "below" else "yes"
    return Verdict(claim, answer, difference)
