"""Claims taken apart into comparisons of two recipes, and the verdict on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from voxella.metrics.declared.lookup import number_of
from voxella.metrics.estimate import Estimate
from voxella.metrics.verdict import Verdict, judged
from voxella.study.differences import interval_difference
from voxella.study.load import Study
from voxella.study.pooled import Row, measured_of, trainings_of
from voxella.study.two_level import POWER, smallest_difference

__all__ = ["FEWEST", "Comparison", "ComparisonResult", "compare", "comparisons"]

# Patients below which no verdict is given.
FEWEST = 10


@dataclass(frozen=True)
class Comparison:
    """One recipe against another in one metric.

    Attributes:
        text: The claim it belongs to, in the paper's words.
        metric: Its name in ``metrics.json``.
        left: A recipe.
        side: Where the claim puts left, seen from right.
        right: Another recipe.
    """

    text: str
    metric: str
    left: str
    side: Literal["below", "above"]
    right: str

    @property
    def name(self) -> str:
        """Return the comparison in words, such as ``ccella below base in 3D KID``."""
        return f"{self.left} {self.side} {self.right} in {number_of(self.metric).heading}"


# Left minus right from the cases themselves; None where they are not there to be compared.
Paired = Callable[[Comparison], Estimate | None]


@dataclass(frozen=True)
class ComparisonResult:
    """The verdict on a comparison.

    Attributes:
        comparison: Who against whom.
        verdict: With left minus right.
        paired: Whether the cases decided, drawn together, or two separate intervals.
    """

    comparison: Comparison
    verdict: Verdict
    paired: bool

    @property
    def margin(self) -> tuple[float, float] | None:
        """Return how far left lies on the claimed side of right, low to high; None: not known."""
        difference = self.verdict.difference
        if difference.low is None or difference.high is None:
            return None
        if self.comparison.side == "below":
            # Not the minus sign of a zero.
            return 0.0 - difference.high, 0.0 - difference.low
        return difference.low, difference.high

    @property
    def smallest(self) -> float | None:
        """Return the smallest true difference that these data would decide; None: not known."""
        return smallest_difference(self.verdict.difference)

    @property
    def power(self) -> str:
        """Say what difference could have been shown, "" where that is not known."""
        if self.smallest is None:
            return ""
        return f"; a difference of {self.smallest:.3g} would show ({POWER:.0%} power)".replace(
            "%", " %"
        )

    def __str__(self) -> str:
        difference, answer = self.verdict.difference, self.verdict.answer
        if self.margin is None:
            # The whole reason stands under the table and in table.json.
            why = (difference.note or "no interval").partition(" (expected: ")[0].partition(";")[0]
            return f"{self.comparison.name}: {answer} ({_cut(why)}), N = {difference.n}"
        low, high = self.margin
        return f"{self.comparison.name}: {answer}, {low:.3g} to {high:.3g}, N = {difference.n}"

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON-ready data; ``margin`` is in the claim's direction."""
        return {
            "text": self.comparison.text,
            "metric": self.comparison.metric,
            "left": self.comparison.left,
            "side": self.comparison.side,
            "right": self.comparison.right,
            **self.verdict.as_json(),
            "margin": None if self.margin is None else list(self.margin),
            "paired": self.paired,
            "smallest_difference": self.smallest,
            "sentence": str(self),
        }


def comparisons(study: Study) -> Iterator[Comparison]:
    """Yield every comparison of a study's claims: each metric, each left against each right."""
    for claim in study.claims:
        for metric in claim.metrics:
            for left in claim.lefts:
                for right in claim.rights:
                    if left != right:
                        yield Comparison(claim.text, metric, left, claim.side, right)


def compare(
    comparison: Comparison, left: Row, right: Row, paired: Paired | None = None
) -> ComparisonResult:
    """Return the verdict on a comparison.

    Where the cases of both runs are at hand their difference is taken case by case; else the two
    runs' intervals are all there is, and what they share is lost. Of very few patients either
    interval may be far too short (all draws of one patient are alike), so they decide nothing.

    Args:
        comparison: Who against whom.
        left: Its left; of several trainings, their mean.
        right: Its right.
        paired: Gives left minus right from the cases.
    """
    ours, theirs = left.number(comparison.metric), right.number(comparison.metric)
    n = min(ours.estimate.n, theirs.estimate.n)
    for name, number in ((comparison.left, ours), (comparison.right, theirs)):
        if number.estimate.value is None:
            return _undecided(comparison, f"{name}: {number.estimate.note}", n)
    if ours.network != theirs.network:
        return _undecided(comparison, f"features of {ours.network} and of {theirs.network}", n)
    for name, row in ((comparison.left, left), (comparison.right, right)):
        done, asked = len(measured_of(row, comparison.metric)), len(trainings_of(row))
        if done < min(asked, 2):
            why = f"{name}: {done} of {asked} trainings, and one says nothing of another"
            return _undecided(comparison, why, n)
    if n < FEWEST:
        return _undecided(comparison, f"fewer than {FEWEST} patients decide nothing", n)
    difference = paired(comparison) if paired is not None else None
    by_case = difference is not None and difference.low is not None
    if difference is None or not by_case:
        difference = interval_difference(ours.estimate, theirs.estimate)
    return ComparisonResult(
        comparison, judged(comparison.name, difference, side=comparison.side), by_case
    )


def _cut(text: str, length: int = 90) -> str:
    return text if len(text) <= length else f"{text[:length].rsplit(' ', 1)[0]} ..."


def _undecided(comparison: Comparison, why: str, n: int) -> ComparisonResult:
    difference = Estimate.undefined(n, why)
    return ComparisonResult(
        comparison, judged(comparison.name, difference, side=comparison.side), paired=False
    )
