"""A binary classifier's numbers against scikit-learn, definitions, and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve as sklearn_curve

from voxella.errors import UserError
from voxella.metrics.binary import average_precision, binary_metrics
from voxella.metrics.bootstrap import bootstrap
from voxella.metrics.calibration import calibration_curve
from voxella.metrics.delong import auc_covariance, auc_estimate, placements
from voxella.metrics.predictions import Predictions

Array = NDArray[np.float64]


def drawn(n: int = 120, seed: int = 0) -> tuple[NDArray[np.bool_], Array]:
    """Scores with ties, so that half-counted ranks matter."""
    generator = np.random.default_rng(seed)
    truth = generator.random(n) < 0.4
    scores = 1 / (1 + np.exp(-generator.normal(truth * 1.2 - 0.5)))
    return truth, np.round(scores, 2)


def predictions(
    truth: NDArray[np.bool_], scores: Array, patients: list[str] | None = None
) -> Predictions:
    ids = [f"c{row:04d}" for row in range(len(truth))]
    return Predictions.of(ids, truth, scores, patients=patients)


def test_every_value_is_scikit_learns() -> None:
    truth, scores = drawn()
    called = scores > 0.5
    found = binary_metrics(predictions(truth, scores), seed=0, name="b", replicates=100)
    expected = {
        "accuracy": sklearn.accuracy_score(truth, called),
        "sensitivity": sklearn.recall_score(truth, called),
        "specificity": sklearn.recall_score(~truth, ~called),
        "ppv": sklearn.precision_score(truth, called),
        "npv": sklearn.precision_score(~truth, ~called),
        "prevalence": truth.mean(),
        "auc": sklearn.roc_auc_score(truth, scores),
        "average_precision": sklearn.average_precision_score(truth, scores),
        "brier": sklearn.brier_score_loss(truth, scores),
    }
    values = {metric: estimate.value for metric, estimate in found.items() if metric != "ece"}
    assert values == pytest.approx(expected, rel=1e-12)
    for metric, estimate in found.items():
        assert estimate.low is not None, metric
        assert estimate.high is not None, metric
        assert estimate.value is not None, metric
        assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0, metric
    assert found["sensitivity"].n == truth.sum()
    assert found["auc"].n == 120


def test_average_precision_is_its_definition_with_ties_of_every_kind() -> None:
    generator = np.random.default_rng(3)
    for _ in range(300):
        n = int(generator.integers(1, 60))
        truth = generator.random(n) < generator.random()
        scores = np.round(generator.random(n), int(generator.integers(0, 4)))
        if not truth.any():
            assert math.isnan(average_precision(truth, scores))
            continue
        expected = recalled = 0.0
        for threshold in sorted(set(scores.tolist()), reverse=True):
            called = scores >= threshold
            recall = (truth & called).sum() / truth.sum()
            expected += (recall - recalled) * truth[called].mean()
            recalled = recall
        assert average_precision(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_drawn_average_precision_is_scikit_learns_of_the_drawn_cases() -> None:
    """Cases that a draw repeats count that often, and one that it lacks does not count."""
    truth, scores = drawn(30, seed=4)
    given = predictions(truth, scores, [f"p{row // 2}" for row in range(30)])
    found = binary_metrics(given, seed=5, name="b", replicates=60)["average_precision"]
    expected = bootstrap(
        lambda rows: float(sklearn.average_precision_score(given.truth[rows], given.scores[rows])),
        given.patients,
        seed=5,
        name="b/average_precision",
        replicates=60,
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.value == pytest.approx(expected.value, abs=1e-12)


def test_some_of_the_numbers_are_the_same_as_among_all() -> None:
    given = predictions(*drawn(40))
    everything = binary_metrics(given, seed=0, name="b", replicates=20)
    some = binary_metrics(given, seed=0, name="b", replicates=20, wanted=("auc", "ece"))
    assert some == {name: everything[name] for name in ("auc", "ece")}


def test_the_order_of_the_rows_does_not_matter() -> None:
    truth, scores = drawn(40)
    ids = [f"c{row:04d}" for row in range(40)]
    turned = Predictions.of(ids[::-1], truth[::-1], scores[::-1])
    plain, other = (
        binary_metrics(p, seed=0, name="b", replicates=20)
        for p in (predictions(truth, scores), turned)
    )
    assert plain == other


def test_a_tie_at_the_threshold_is_negative_as_with_argmax() -> None:
    found = binary_metrics(
        predictions(np.array([True, False, False]), np.array([0.5, 0.5, 0.51])),
        seed=0,
        name="b",
        replicates=5,
    )
    assert found["sensitivity"].value == 0.0
    assert found["specificity"].value == 0.5


def test_what_does_not_exist_is_undefined_with_the_reason() -> None:
    none = binary_metrics(
        predictions(np.zeros(5, dtype=bool), np.full(5, 0.2)), seed=0, name="b", replicates=20
    )
    reasons = {metric: estimate.note for metric, estimate in none.items() if estimate.value is None}
    assert reasons == {
        "sensitivity": "no positive cases",
        "ppv": "nothing was called positive",
        "auc": "no positive cases",
        "average_precision": "no positive cases",
    }
    assert none["specificity"].value == 1.0
    assert none["brier"].value == pytest.approx(0.04)
    owned = predictions(np.zeros(4, dtype=bool), np.full(4, 0.2), ["p", "p", "q", "q"])
    clustered = binary_metrics(owned, seed=0, name="b", replicates=20)
    assert clustered["auc"].note == "only one class is present"
    assert clustered["sensitivity"].note == "no positive cases"


def test_cases_of_one_patient_are_no_more_evidence_than_one() -> None:
    truth, scores = drawn(60)
    thrice = predictions(
        np.repeat(truth, 3), np.repeat(scores, 3), [f"p{row // 3:02d}" for row in range(180)]
    )
    once = binary_metrics(predictions(truth, scores), seed=0, name="b", replicates=400)
    found = binary_metrics(thrice, seed=0, name="b", replicates=400)
    for metric in ("accuracy", "auc", "average_precision"):
        a, b = once[metric], found[metric]
        assert a.value == pytest.approx(b.value)
        assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.03)
        assert b.n == 60


def test_placements_are_their_definition() -> None:
    """DeLong et al. 1988: psi is 1, 1/2 or 0 for a positive above, level with, below a negative."""
    truth, scores = drawn(40)
    positive, negative = scores[truth], scores[~truth]
    psi = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    above, below = placements(truth, scores[None])
    np.testing.assert_allclose(above[0], psi.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(below[0], psi.mean(axis=0), atol=1e-12)


def test_the_auc_and_its_variance_by_hand() -> None:
    """Positives 3, 2 and 4, negatives 1 and 3.

    Shares of negatives below the positives: 3/4, 1/2, 1; AUC 3/4. Their variance is 1/16. Shares
    of positives above the negatives: 1, 1/2; variance 1/8. Together 1/16/3 + 1/8/2 = 1/12.
    """
    truth = np.array([True, False, True, True, False])
    aucs, covariance = auc_covariance(truth, np.array([[3.0, 1.0, 2.0, 4.0, 3.0]]))
    assert aucs[0] == pytest.approx(0.75)
    assert covariance[0, 0] == pytest.approx(1 / 12)


def test_the_interval_of_the_auc_covers_the_truth() -> None:
    """Normal scores one standard deviation apart: AUC = Phi(1 / sqrt 2); 300 sets of 60."""
    generator = np.random.default_rng(0)
    expected = 0.5 * (1 + math.erf(0.5))
    truth = np.arange(60) < 25
    found = [auc_estimate(truth, generator.normal(size=60) + truth) for _ in range(300)]
    hits = [e.low is not None and e.high is not None and e.low <= expected <= e.high for e in found]
    assert 0.92 <= np.mean(hits) <= 0.98


@pytest.mark.parametrize(
    ("truth", "scores", "said"),
    [
        ([1, 1, 0, 0], [0.9, 0.8, 0.3, 0.2], "separated without error"),
        ([1, 0, 0, 0], [0.9, 0.8, 0.95, 0.2], "two cases of each class"),
    ],
)
def test_an_auc_without_a_variance_has_no_interval(
    truth: list[int], scores: list[float], said: str
) -> None:
    found = auc_estimate(np.array(truth, dtype=bool), np.array(scores))
    assert found.value == pytest.approx(sklearn.roc_auc_score(truth, scores))
    assert found.low is None
    assert said in (found.note or "")


def test_calibration_is_scikit_learns_and_its_error_the_definition() -> None:
    truth, scores = drawn(400)
    # Off the edges of the bins, which scikit-learn gives to the bin below.
    scores = scores.clip(0.01, 0.99) + 0.003
    curve = calibration_curve(predictions(truth, scores))
    observed, predicted = sklearn_curve(truth, scores, n_bins=10)
    filled = [place for place in curve if place.predicted is not None]
    assert [place.observed.value for place in filled] == pytest.approx(list(observed))
    assert [place.predicted for place in filled] == pytest.approx(list(predicted))
    weights = np.array([place.observed.n for place in filled]) / 400
    found = binary_metrics(predictions(truth, scores), seed=0, name="b", replicates=20)
    assert found["ece"].value == pytest.approx((weights * np.abs(observed - predicted)).sum())
    empty = calibration_curve(predictions(np.array([True, False]), np.array([1.0, 0.95])))
    assert empty[0].predicted is None
    assert empty[0].observed.note == "no case has such a probability"
    assert empty[-1].as_json()["observed"]["n"] == 2


def test_bad_predictions_are_refused_all_at_once() -> None:
    with pytest.raises(UserError) as refused:
        Predictions.of(["a", "b", "b", "d"], [1, 0, 2, 1], [0.5, math.nan, 0.1, 1.2])
    told = str(refused.value)
    assert "1 case(s) predicted more than once: b" in told
    assert "neither 0 nor 1: b" in told
    assert "no probability (NaN, or outside 0 to 1): b, d" in told
    with pytest.raises(UserError, match="no predictions"):
        Predictions.of([], [], [])
    with pytest.raises(ValueError, match="differ in number"):
        Predictions.of(["a"], [1, 0], [0.5])
