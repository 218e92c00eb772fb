"""The Fréchet distance against closed forms, scipy's matrix root and MONAI."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.linalg
import torch
from monai.metrics.fid import FIDMetric
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.metrics.bootstrap import baseline_draws, replicate_draws
from voxella.metrics.distances import frechet_draws
from voxella.metrics.distances.frechet import frechet_baseline, frechet_estimate, rank_problem
from voxella.metrics.distances.frechet_draws import frechet_statistic, frechet_values
from voxella.metrics.distances.gaussians import Moments, frechet_distance, moments
from voxella.metrics.vectors import VectorSet

Array = NDArray[np.float64]


def drawn(n: int, dim: int, seed: int, shift: float = 0.0) -> Array:
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(dim, dim)) / np.sqrt(dim)
    return np.asarray(generator.normal(size=(n, dim)) @ mixing + shift)


def vectors(values: NDArray[np.floating], what: str = "real") -> VectorSet:
    return VectorSet.of(values, [f"c{row:04d}" for row in range(len(values))], what=what)


def given(mean: Sequence[float] | Array, covariance: Array) -> Moments:
    return Moments(9, torch.tensor(np.array(mean)), torch.from_numpy(covariance))


def of_rows(values: NDArray[np.floating]) -> Moments:
    return moments(torch.from_numpy(values))


def by_definition(a: Array, b: Array) -> float:
    """Heusel et al. 2017, equation 6, word for word, with scipy's general matrix root."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second)
    apart = a.mean(axis=0) - b.mean(axis=0)
    return float(apart @ apart + np.trace(first + second - 2 * root.real))


def test_two_gaussians_have_their_closed_form() -> None:
    """Diagonal covariances commute: the distance is that of the standard deviations."""
    first = given([1.0, 2.0, 3.0], np.diag([4.0, 1.0, 0.25]))
    second = given([1.0, 0.0, 3.5], np.diag([9.0, 0.0, 0.25]))
    expected = (0 + 4 + 0.25) + (1 + 1 + 0)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-12)
    # Rotating both by the same rotation moves neither nearer.
    turn = scipy.linalg.expm(np.array([[0, 1, -2], [-1, 0, 0.5], [2, -0.5, 0]]))
    turned = [
        given(turn @ m.mean.numpy(), turn @ m.covariance.numpy() @ turn.T) for m in (first, second)
    ]
    assert frechet_distance(*turned) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m", "dim"), [(90, 90, 6), (300, 120, 40)])
def test_features_give_what_scipy_and_monai_give(n: int, m: int, dim: int) -> None:
    a, b = drawn(n, dim, 0), drawn(m, dim, 1, shift=0.3)
    ours = frechet_distance(of_rows(a), of_rows(b))
    assert ours == pytest.approx(by_definition(a, b), rel=1e-9)
    monai = float(FIDMetric()(torch.from_numpy(b), torch.from_numpy(a)))
    assert ours == pytest.approx(monai, rel=1e-6)
    assert frechet_distance(of_rows(b), of_rows(a)) == pytest.approx(ours, rel=1e-9)


def test_equal_sets_are_at_distance_zero_and_float32_is_summed_in_float64() -> None:
    a = drawn(200, 8, 0)
    assert frechet_distance(of_rows(a), of_rows(a)) == pytest.approx(0.0, abs=1e-9)
    far = (a + 1000.0).astype(np.float32)
    expected = np.cov(far.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(of_rows(far).covariance.numpy(), expected, rtol=1e-9)


def test_fewer_cases_than_features_give_the_same_number_another_way() -> None:
    """Both formulas on one singular problem; the eigenvalues' route squares the condition."""
    a, b = drawn(20, 30, 0), drawn(25, 30, 1, shift=0.2)
    ours = frechet_statistic(vectors(a), vectors(b))(np.arange(20), np.arange(25))
    assert ours == pytest.approx(frechet_distance(of_rows(a), of_rows(b)), rel=1e-6)


@pytest.mark.parametrize("dim", [3, 40])
def test_drawing_rows_is_repeating_them(dim: int) -> None:
    a, b = drawn(30, dim, 0), drawn(25, dim, 1)
    generator = np.random.default_rng(2)
    first, second = generator.integers(30, size=30), generator.integers(25, size=25)
    ours = frechet_statistic(vectors(a), vectors(b))(first, second)
    assert ours == pytest.approx(frechet_distance(of_rows(a[first]), of_rows(b[second])), rel=1e-6)


def slices(cases: int, each: int, dim: int, seed: int, shift: float = 0.0) -> VectorSet:
    """Slices of a case lie near to each other; two cases are of one patient."""
    generator = np.random.default_rng(seed)
    centres = np.repeat(generator.normal(shift, 1.0, (cases, dim)), each, axis=0)
    values = (centres + generator.normal(0, 0.3, centres.shape)).astype(np.float32)
    names = [f"c{case:03d}" for case in range(cases) for _ in range(each)]
    patients = [f"p{case // 2:03d}" if case < 4 else name for case, name in enumerate(names)]
    return VectorSet.of(values, names, patients=patients, what="real")


@pytest.mark.parametrize(("cases", "each", "dim"), [(24, 8, 6), (9, 3, 40), (70, 1, 5)])
@pytest.mark.parametrize("paired", [False, True])
def test_many_draws_at_once_have_the_values_of_each_alone(
    cases: int, each: int, dim: int, paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From each patient's sums, few draws and few patients at a time, against all rows anew."""
    monkeypatch.setattr(frechet_draws, "_BYTES", 8 * dim**2 * 3)
    monkeypatch.setattr(frechet_draws, "_PATIENT_BYTES", 8 * dim**2 * 4)
    real, made = slices(cases, each, dim, 0), slices(cases, each, dim, 1, shift=50.0)
    groups = (real.patients, made.patients)
    replicates = replicate_draws(groups, seed=3, name="fid", paired=paired, replicates=10)
    splits = baseline_draws(real.patients, seed=0, name="f", repeats=2, size=4)
    draws = [*replicates, *(list(split) for split in splits)]
    together = frechet_values(real, made, draws)
    alone = [
        frechet_distance(of_rows(real.rows(first)), of_rows(made.rows(second)))
        for first, second in draws
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-6 if dim == 40 else 1e-9)
    # Three processes take blocks of three draws in turn, and find the same to the last bit.
    whose = np.arange(len(draws)) // 3 % 3
    shared = np.empty(len(draws))
    for rank in range(3):
        shared[whose == rank] = frechet_values(real, made, draws, blocks=(rank, 3))
    assert shared.tolist() == together.tolist()
    computed, known = (
        frechet_estimate(
            real,
            made,
            seed=3,
            name="fid",
            paired=paired,
            replicates=10,
            singular="note",
            drawn=drawn,
        )
        for drawn in (None, shared[:10])
    )
    assert known.low == pytest.approx(computed.low)
    assert known.high == pytest.approx(computed.high)


def test_features_that_never_change_and_draws_of_one_row() -> None:
    """A dead feature makes a covariance singular, in one set or in both."""
    a, b = drawn(60, 5, 0), drawn(50, 5, 1, shift=0.3)
    for dead in ((0,), (1,), (0, 1)):
        pair = [a.copy(), b.copy()]
        for side in dead:
            pair[side][:, 2] = 1.5 * side
        found = frechet_distance(of_rows(pair[0]), of_rows(pair[1]))
        assert found == pytest.approx(by_definition(*pair), rel=1e-6)
    # Singular all the same, without a feature that is dead: one is the sum of two others.
    a[:, 2] = a[:, 0] + a[:, 1]
    exact = frechet_distance(of_rows(a), of_rows(b))
    assert exact == pytest.approx(by_definition(a, b), rel=1e-6)
    one, few = vectors(a), vectors(b)
    rows = np.arange(60)
    for width in (5, 60):
        wide, other = (vectors(np.tile(side.values, width // 5)) for side in (one, few))
        values = frechet_values(wide, other, [[rows[:1], rows[:50]], [rows, rows[:50]]])
        assert np.isnan(values[0])
        assert np.isfinite(values[1])
    many = slices(8, 8, 3, 0)
    with pytest.raises(ValueError, match="patients whole"):
        frechet_values(many, many, [[np.arange(60), np.arange(64)]])


def test_too_few_cases_for_the_features_are_refused_with_the_reason() -> None:
    assert rank_problem(8, 8) is not None
    assert rank_problem(9, 8) is None
    real, synthetic = vectors(drawn(20, 30, 0)), vectors(drawn(25, 30, 1), "synthetic")
    with pytest.raises(UserError, match=r"20 vectors of 30 features.*rank 19") as refused:
        frechet_estimate(real, synthetic, seed=0, name="fid")
    assert "KID" in str(refused.value)
    noted = frechet_estimate(real, synthetic, seed=0, name="fid", replicates=5, singular="note")
    assert "rank 19" in (noted.note or "")
    assert noted.warning is not None
    assert "too large by an amount" in noted.warning
    assert noted.value is not None
    enough = frechet_estimate(vectors(drawn(40, 3, 0)), vectors(drawn(40, 3, 1)), seed=0, name="f")
    assert enough.warning is None
    with pytest.raises(UserError, match="a set of 1 vector"):
        frechet_estimate(real, vectors(drawn(1, 30, 0)), seed=0, name="fid", singular="note")


def test_the_baseline_is_what_real_cases_score_and_a_moved_set_scores_more() -> None:
    real, moved = vectors(drawn(80, 3, 0)), vectors(drawn(40, 3, 0, shift=0.8), "synthetic")
    floor = frechet_baseline(real, seed=0, name="fid", repeats=10, size=40)
    assert floor.n == 40
    assert floor.low is not None
    assert floor.high is not None
    assert 0.0 < floor.low < floor.high
    beyond = frechet_estimate(real, moved, seed=0, name="fid", replicates=0)
    assert beyond.value is not None
    assert beyond.value > floor.high
    assert beyond.low is None
    small = frechet_baseline(vectors(drawn(40, 30, 0)), seed=0, name="fid", repeats=3)
    assert "20 vectors of 30 features" in (small.note or "")


def test_bad_vectors_are_refused_by_case() -> None:
    values = drawn(9, 3, 0)
    values[2, 1], values[7, 0] = np.nan, np.inf
    with pytest.raises(UserError, match=r"2 case\(s\) hold NaN or infinity: c0002, c0007"):
        vectors(values)
    with pytest.raises(UserError, match="no real vectors"):
        vectors(np.empty((0, 3)))
    with pytest.raises(UserError, match="3 numbers, synthetic ones 4"):
        frechet_statistic(vectors(drawn(9, 3, 0)), vectors(drawn(9, 4, 0), "synthetic"))


def test_the_interval_holds_the_distance_at_this_n() -> None:
    """Three dimensions, 40 cases, 60 experiments, against the mean of 2000 others."""
    generator = np.random.default_rng(5)

    def experiment() -> tuple[Array, Array]:
        return generator.normal(size=(40, 3)), generator.normal(size=(40, 3)) * 1.3 + 0.3

    others = (experiment() for _ in range(2000))
    truth = np.mean([frechet_distance(of_rows(a), of_rows(b)) for a, b in others])
    hits = 0
    for trial in range(60):
        a, b = experiment()
        found = frechet_estimate(
            vectors(a), vectors(b, "synthetic"), seed=trial, name="fid", replicates=100
        )
        assert found.low is not None
        assert found.high is not None
        hits += bool(found.low <= truth <= found.high)
    assert hits / 60 >= 0.85
    assert "40 real cases and 40 synthetic cases" in found.how
    assert "repeat cases" in (found.note or "")
