"""Paired tests against definitions, permutation and scipy; verdicts that admit not to know."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from voxella.errors import UserError
from voxella.metrics.comparison import compare_accuracy, compare_auc
from voxella.metrics.estimate import Estimate
from voxella.metrics.predictions import Predictions
from voxella.metrics.verdict import judged

Array = NDArray[np.float64]


def drawn(n: int = 60, seed: int = 0) -> tuple[NDArray[np.bool_], Array, Array]:
    """Return truth and two correlated scores, the first the better; rounded, so that some tie."""
    generator = np.random.default_rng(seed)
    truth = generator.random(n) < 0.5
    common = generator.normal(size=n)
    first = truth * 1.5 + common + generator.normal(size=n) * 0.6
    second = truth * 0.9 + common + generator.normal(size=n) * 0.6
    first, second = (np.round(1 / (1 + np.exp(-s)), 2) for s in (first, second))
    return truth, first, second


def predictions(truth: NDArray[np.bool_], scores: Array) -> Predictions:
    return Predictions.of([f"c{row:04d}" for row in range(len(truth))], truth, scores)


def delong_by_definition(truth: NDArray[np.bool_], a: Array, b: Array) -> tuple[float, float]:
    """DeLong et al. 1988 by the table of all pairs: difference of the AUCs, its variance."""
    tables = []
    for scores in (a, b):
        positive, negative = scores[truth], scores[~truth]
        tables.append((positive[:, None] > negative) + 0.5 * (positive[:, None] == negative))
    s10 = np.cov([table.mean(axis=1) for table in tables])
    s01 = np.cov([table.mean(axis=0) for table in tables])
    s = s10 / truth.sum() + s01 / (~truth).sum()
    return tables[0].mean() - tables[1].mean(), s[0, 0] + s[1, 1] - 2 * s[0, 1]


def test_delong_is_its_definition() -> None:
    truth, first, second = drawn()
    found = compare_auc(predictions(truth, first), predictions(truth, second))
    difference, variance = delong_by_definition(truth, first, second)
    assert found.difference.value == pytest.approx(difference)
    assert found.difference.low == pytest.approx(
        difference - 1.959964 * np.sqrt(variance), rel=1e-6
    )
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(difference) / np.sqrt(variance)))


def test_delong_agrees_with_a_permutation_test() -> None:
    """Swap the two classifiers' scores case by case, after bringing them to one scale of ranks."""
    truth, first, second = drawn(80, seed=3)
    ranks = [stats.rankdata(scores) for scores in (first, second)]
    generator = np.random.default_rng(0)
    observed, _ = delong_by_definition(truth, ranks[0], ranks[1])
    swaps = generator.random((1000, 80)) < 0.5
    permuted = [
        delong_by_definition(
            truth, np.where(s, ranks[1], ranks[0]), np.where(s, ranks[0], ranks[1])
        )[0]
        for s in swaps
    ]
    by_permutation = np.mean(np.abs(permuted) >= abs(observed) - 1e-12)
    found = compare_auc(predictions(truth, first), predictions(truth, second))
    assert found.p_value == pytest.approx(by_permutation, abs=0.03)


def test_delong_rejects_equals_as_often_as_it_should() -> None:
    generator = np.random.default_rng(0)
    truth = np.arange(60) < 30
    rejected = 0
    for _ in range(300):
        common = truth + generator.normal(size=60)
        pair = [stats.norm.cdf(common + generator.normal(size=60)) for _ in range(2)]
        found = compare_auc(*(predictions(truth, scores) for scores in pair))
        assert found.p_value is not None
        rejected += found.p_value < 0.05
    assert 0.02 <= rejected / 300 <= 0.09


def test_classifiers_that_rank_alike_do_not_differ() -> None:
    truth, first, _ = drawn()
    same = compare_auc(predictions(truth, first), predictions(truth, first**2))
    assert same.p_value == 1.0
    assert same.difference.value == 0.0
    assert same.difference.low is None
    few = compare_auc(*(predictions(np.array([True, False, False]), s[:3]) for s in (first, first)))
    assert few.difference.value is None
    assert few.as_json()["p_value"] is None


def with_counts(
    both: int, only_a: int, only_b: int, neither: int
) -> tuple[Predictions, Predictions]:
    right_a = [True] * (both + only_a) + [False] * (only_b + neither)
    right_b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    truth = np.ones(len(right_a), dtype=bool)
    return (
        predictions(truth, np.where(right_a, 0.9, 0.1)),
        predictions(truth, np.where(right_b, 0.9, 0.1)),
    )


@pytest.mark.parametrize(("more", "less"), [(9, 2), (0, 6), (4, 4), (0, 0)])
def test_mcnemar_is_the_binomial_of_the_discordant_cases(more: int, less: int) -> None:
    found = compare_accuracy(*with_counts(20, more, less, 5))
    n = 25 + more + less
    # Two-sided: twice the smaller tail, and never above 1.
    tail = stats.binom.cdf(min(more, less), more + less, 0.5)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert found.difference.value == pytest.approx((more - less) / n)
    assert found.difference.n == n


def test_the_interval_of_two_accuracies_covers_their_difference() -> None:
    generator = np.random.default_rng(0)
    cells = np.array([0.6, 0.2, 0.08, 0.12])
    hits = 0
    for _ in range(300):
        found = compare_accuracy(*with_counts(*generator.multinomial(40, cells))).difference
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.12 <= found.high
    assert 0.92 <= hits / 300 <= 0.99


def test_other_cases_or_other_truths_are_refused() -> None:
    truth, first, second = drawn(10)
    a = predictions(truth, first)
    fewer = Predictions.of([f"c{row:04d}" for row in range(1, 11)], truth, second)
    with pytest.raises(UserError, match=r"1 only in the first \(c0000\), 1 only in the second"):
        compare_auc(a, fewer)
    with pytest.raises(UserError, match=r"10 case\(s\) are positive in one set and negative"):
        compare_accuracy(a, predictions(~truth, second))
    turned = Predictions.of(list(a.ids)[::-1], truth[::-1], second[::-1])
    assert compare_auc(a, turned) == compare_auc(a, predictions(truth, second))


@pytest.mark.parametrize(
    ("low", "high", "below", "above"),
    [
        (-0.3, -0.1, "yes", "no"),
        (0.1, 0.3, "no", "yes"),
        (-0.1, 0.3, "undecided", "undecided"),
        (-0.3, 0.1, "undecided", "undecided"),
    ],
)
def test_a_claim_is_decided_by_the_whole_interval(
    low: float, high: float, below: str, above: str
) -> None:
    difference = Estimate((low + high) / 2, low, high, 40)
    assert judged("a below b", difference, side="below").answer == below
    assert judged("a above b", difference, side="above").answer == above


def test_without_an_interval_nothing_is_claimed() -> None:
    verdict = judged("a below b", Estimate.undefined(3, "no positive cases"), side="below")
    assert str(verdict) == "a below b: undecided (no positive cases; N 3)"
    assert judged("a", Estimate(-1.0, None, None, 3), side="below").answer == "undecided"
    told = str(judged("a below b", Estimate(-0.2, -0.3, -0.1, 40), side="below"))
    assert told == "a below b: yes (-0.2, -0.3 to -0.1, N 40)"
