"""Intervals against scipy, closed forms and simulated coverage; draws by patient; the baseline."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from voxella.errors import UserError
from voxella.metrics.bootstrap import bootstrap, real_baseline
from voxella.metrics.estimate import Estimate, clopper_pearson, joined, wilson
from voxella.metrics.resampling import ClusterResampler, Rows, halves
from voxella.philox import keyed_generator


def names(count: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{number:04d}" for number in range(count)]


def skewed(count: int = 60) -> NDArray[np.float64]:
    return np.random.default_rng(3).exponential(size=count)


def test_an_estimate_is_json_and_a_line_and_never_nan() -> None:
    estimate = Estimate(0.76, 0.7, 0.81, 740, how="DeLong interval")
    assert json.loads(json.dumps(estimate.as_json()))["n"] == 740
    assert str(estimate) == "0.76 (0.7 to 0.81; N 740)"
    undefined = Estimate.undefined(3, "no positive cases")
    assert undefined.as_json()["value"] is None
    assert str(undefined) == "undefined (no positive cases; N 3)"
    assert joined(None, "a", "", "b") == "a; b"
    assert joined(None) is None


@pytest.mark.parametrize(
    ("value", "low", "high"), [(math.nan, 0.0, 1.0), (0.5, 0.2, None), (0.5, 0.6, 0.4), (None,) * 3]
)
def test_an_estimate_that_says_nothing_is_refused(
    value: float | None, low: float | None, high: float | None
) -> None:
    with pytest.raises(ValueError, match=r"estimate|interval"):
        Estimate(value, low, high, 3)


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (1, 12), (7, 20), (20, 20), (81, 263)])
def test_intervals_of_a_proportion_are_scipys(hits: int, n: int) -> None:
    found = stats.binomtest(hits, n)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = found.proportion_ci(0.9, method=method)
        estimate = ours(hits, n, level=0.9)
        assert estimate.value == hits / n
        assert estimate.low == pytest.approx(theirs.low, abs=1e-12)
        assert estimate.high == pytest.approx(theirs.high, abs=1e-12)


@pytest.mark.parametrize(
    ("hits", "n", "wilson_ends", "exact_ends"),
    [
        (0, 12, (0.0, 0.24249400665524087), (0.0, 0.2646484693970512)),
        (
            1,
            12,
            (0.014865094404917095, 0.35387991114111694),
            (0.002107593231860228, 0.38479616515094406),
        ),
        (7, 20, (0.1811918241010821, 0.5671457233147638), (0.1539092047845412, 0.5921885345328282)),
        (20, 20, (0.8388748419471806, 1.0), (0.8315665290169147, 1.0)),
        (
            740,
            5071,
            (0.13647915108918726, 0.15591253658444365),
            (0.1363184131199979, 0.15594671090146728),
        ),
    ],
)
def test_intervals_are_what_they_were_by_hand(
    hits: int, n: int, wilson_ends: tuple[float, float], exact_ends: tuple[float, float]
) -> None:
    """Before scipy's: the closed form to rounding, quantiles of the beta distribution to 1e-12."""
    scored, exact = wilson(hits, n), clopper_pearson(hits, n)
    assert (scored.low, scored.high) == pytest.approx(wilson_ends, rel=0, abs=2e-16)
    assert (exact.low, exact.high) == pytest.approx(exact_ends, rel=0, abs=1e-12)


def test_wilson_has_its_published_value() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263, method 3.
    estimate = wilson(81, 263)
    assert estimate.low == pytest.approx(0.2553, abs=5e-5)
    assert estimate.high == pytest.approx(0.3662, abs=5e-5)


def test_a_proportion_of_nothing_is_undefined() -> None:
    assert wilson(0, 0, why="no positive cases").note == "no positive cases"


def test_one_sample_intervals_are_scipys() -> None:
    values = skewed()
    ours = bootstrap(
        lambda rows: float(values[rows].mean()),
        names(60),
        seed=0,
        name="mean",
        replicates=4000,
    )
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(expected), abs=0.025)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """A mean of 40 normal numbers, 200 times: 95 % nominal, a little less for the percentile."""
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        values = generator.normal(size=40)
        found = bootstrap(
            lambda rows, v=values: float(v[rows].mean()),
            names(40),
            seed=trial,
            name="m",
            replicates=150,
        )
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_draws_follow_seed_and_name_and_not_the_order_of_rows() -> None:
    values, ids = skewed(), names(60)

    def interval(order: Rows, seed: int = 0, name: str = "m") -> tuple[float | None, float | None]:
        kept, owners = values[order], [ids[row] for row in order]
        found = bootstrap(
            lambda rows: float(kept[rows].mean()), owners, seed=seed, name=name, replicates=50
        )
        return found.low, found.high

    plain = np.arange(60)
    assert interval(plain) == pytest.approx(interval(plain[::-1]), rel=1e-12)
    assert interval(plain) != pytest.approx(interval(plain, seed=1))
    assert interval(plain) != pytest.approx(interval(plain, name="n"))


def test_rows_of_one_patient_are_drawn_together() -> None:
    """Every case three times is no more evidence than every case once."""
    values, ids = skewed(), names(60)
    often = np.repeat(values, 3)
    once = bootstrap(lambda rows: float(values[rows].mean()), ids, seed=0, name="m", replicates=99)
    thrice = bootstrap(
        lambda rows: float(often[rows].mean()),
        [name for name in ids for _ in range(3)],
        seed=0,
        name="m",
        replicates=99,
    )
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.n == 60


def test_paired_samples_are_drawn_by_their_common_unit() -> None:
    shared = ClusterResampler([names(8), names(8)], paired=True).draw(keyed_generator(0, "p"))
    np.testing.assert_array_equal(shared[0], shared[1])
    apart = ClusterResampler([names(8), names(8)], paired=False).draw(keyed_generator(0, "p"))
    assert not np.array_equal(apart[0], apart[1])
    with pytest.raises(UserError, match="no case in common"):
        ClusterResampler([names(3), names(3, "d")], paired=True)
    with pytest.raises(UserError, match="empty"):
        ClusterResampler([names(3), []], paired=False)


def test_recentring_takes_the_draws_excess_out() -> None:
    """The variance over n is too small in each draw by a factor 1 - 1/n: known in closed form."""
    values = np.random.default_rng(0).normal(size=12)

    def spread(rows: Rows) -> float:
        return float(values[rows].var())

    plain, moved = (
        bootstrap(spread, names(12), seed=0, name="v", replicates=2000, method=method)
        for method in ("percentile", "recentred")
    )
    assert plain.low is not None
    assert moved.low is not None
    assert moved.low - plain.low == pytest.approx(values.var() / 12, rel=0.15)
    assert "moved" in (moved.note or "")
    ends = [
        bootstrap(
            lambda rows: float(abs(values[rows].mean())),
            names(12),
            seed=0,
            name="v",
            method="recentred",
            at_least=least,
        )
        for least in (None, 0.0)
    ]
    assert ends[0].low is not None
    assert ends[0].low < 0.0 == ends[1].low
    assert ends[0].high == ends[1].high


def test_undefined_draws_are_counted_or_forbid_an_interval() -> None:
    rare = np.arange(10) == 0

    def among_rare(rows: Rows) -> float:
        return 1.0 if rare[rows].any() else math.nan

    found = bootstrap(among_rare, names(10), seed=0, name="r", replicates=200)
    assert found.low is None
    assert "undefined" in (found.note or "")
    nothing = bootstrap(lambda rows: math.nan, names(4), seed=0, name="r", replicates=5)
    assert nothing.value is None


def test_halves_share_no_patient() -> None:
    patients = [name for name in names(11, "p") for _ in range(2)]
    first, second = halves(patients, keyed_generator(0, "h"))
    assert len(first) == len(second) == 10
    assert not {patients[row] for row in first} & {patients[row] for row in second}
    with pytest.raises(UserError, match="cannot be made of 11"):
        halves(patients, keyed_generator(0, "h"), size=6)


def test_the_baseline_is_what_real_cases_score_against_real_cases() -> None:
    values = np.random.default_rng(0).normal(size=80)

    def apart(first: Rows, second: Rows) -> float:
        return float(abs(values[first].mean() - values[second].mean()))

    floor = real_baseline(apart, names(80), seed=0, name="apart", repeats=200)
    # Two halves of one finite set: the difference of means has variance 4 s^2 / n.
    expected = stats.halfnorm.ppf(0.5) * 2 * values.std(ddof=1) / math.sqrt(80)
    assert floor.value == pytest.approx(expected, rel=0.2)
    assert floor.n == 40
    smaller = real_baseline(apart, names(80), seed=0, name="apart", repeats=200, size=10)
    assert floor.value is not None
    assert smaller.value is not None
    assert smaller.value > floor.value
