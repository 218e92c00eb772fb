"""KID against its definition as two loops, MONAI's MMD, and what its standard error promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics.mmd import MMDMetric
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.metrics.bootstrap import real_floor
from voxella.metrics.kernel import (
    kernel_distance,
    kernel_distance_subsets,
    kernel_statistic,
    polynomial_kernel,
)
from voxella.metrics.vectors import VectorSet

Array = NDArray[np.float64]


def drawn(n: int, seed: int, shift: float = 0.0, dim: int = 5) -> Array:
    return np.random.default_rng(seed).normal(size=(n, dim)) + shift


def vectors(values: Array, patients: list[str] | None = None) -> VectorSet:
    return VectorSet.of(values, [f"c{row:04d}" for row in range(len(values))], patients=patients)


def by_definition(x: Array, y: Array) -> float:
    """Gretton et al. 2012, lemma 6, pair by pair."""

    def k(a: Array, b: Array) -> float:
        return float((a @ b / len(a) + 1.0) ** 3)

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    across = sum(k(a, b) for a in x for b in y)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)


def test_it_is_the_definition() -> None:
    x, y = drawn(12, 0), drawn(9, 1, 0.5)
    value = kernel_distance(vectors(x), vectors(y)).value
    assert value == pytest.approx(by_definition(x, y), rel=1e-12)


def test_with_degree_one_it_is_monais_linear_mmd() -> None:
    x, y = drawn(11, 0), drawn(11, 1, 0.5)
    kernels = [polynomial_kernel(a, b, degree=1) for a, b in ((x, x), (y, y), (x, y))]
    for matrix in kernels[:2]:
        np.fill_diagonal(matrix, 0.0)
    ours = kernels[0].sum() / 110 + kernels[1].sum() / 110 - 2 * kernels[2].mean()
    theirs = float(MMDMetric()(torch.from_numpy(x), torch.from_numpy(y)))
    assert 5 * ours == pytest.approx(theirs, rel=1e-9)


def test_it_is_unbiased_and_its_error_is_right() -> None:
    """300 experiments of 15 against 20 cases: no distance on average, at any N."""
    null = [
        kernel_distance(vectors(drawn(15, 2 * s)), vectors(drawn(20, 2 * s + 1)))
        for s in range(300)
    ]
    values = np.array([found.value for found in null])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(300)
    assert (values < 0).any()
    apart = [
        kernel_distance(vectors(drawn(30, 2 * s)), vectors(drawn(30, 2 * s + 1, 0.5)))
        for s in range(300)
    ]
    spread = np.std([found.value or 0.0 for found in apart])
    told = np.mean(
        [(f.high - f.low) / 2 / 1.96 for f in apart if f.high is not None and f.low is not None]
    )
    assert told == pytest.approx(spread, rel=0.2)


def test_the_jackknife_leaves_one_out_literally() -> None:
    x, y = drawn(7, 0), drawn(6, 1, 0.5)
    no_x = np.array([by_definition(np.delete(x, i, axis=0), y) for i in range(7)])
    no_y = np.array([by_definition(x, np.delete(y, j, axis=0)) for j in range(6)])
    error = np.sqrt(no_x.var() * 6 + no_y.var() * 5)
    found = kernel_distance(vectors(x), vectors(y))
    assert found.high is not None
    assert found.value is not None
    assert (found.high - found.value) / 1.959963985 == pytest.approx(error, rel=1e-9)


def test_a_subset_of_all_is_the_whole_and_subsets_follow_the_seed() -> None:
    x, y = vectors(drawn(20, 0)), vectors(drawn(20, 1, 0.5))
    whole = kernel_distance(x, y).value
    assert kernel_distance_subsets(x, y, seed=0, name="k", subsets=3).value == pytest.approx(whole)
    ten = [kernel_distance_subsets(x, y, seed=s, name="k", subsets=300, size=10) for s in (0, 0, 1)]
    assert ten[0] == ten[1]
    assert ten[0].value != ten[2].value
    assert ten[0].value == pytest.approx(whole, rel=0.2)


def test_drawn_rows_are_repeated_rows() -> None:
    x, y = drawn(10, 0), drawn(8, 1)
    rows = np.array([0, 0, 3, 9]), np.array([1, 2, 2])
    ours = kernel_statistic(vectors(x), vectors(y))(*rows)
    assert ours == pytest.approx(by_definition(x[rows[0]], y[rows[1]]), rel=1e-12)


def test_real_against_real_lies_at_zero_and_the_shifted_set_above_it() -> None:
    real = vectors(drawn(60, 0))
    floor = real_floor(kernel_statistic(real, real), real.patients, seed=0, name="kid", repeats=40)
    moved = kernel_distance(real, vectors(drawn(60, 1, 0.7))).value
    assert floor.low is not None
    assert floor.high is not None
    assert floor.low < 0 < floor.high
    assert moved is not None
    assert moved > floor.high


def test_what_cannot_be_told_is_said_or_refused() -> None:
    patients = [f"p{row // 2}" for row in range(10)]
    assert "too narrow" in (
        kernel_distance(vectors(drawn(10, 0), patients), vectors(drawn(9, 1))).note or ""
    )
    with pytest.raises(UserError, match="at least 3"):
        kernel_distance(vectors(drawn(2, 0)), vectors(drawn(9, 1)))
