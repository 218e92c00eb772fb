"""Precision, recall, density and coverage against their definitions as loops and known cases."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.metrics import vectors as vectors_module
from voxella.metrics.coverage import coverage_estimates, membership
from voxella.metrics.vectors import VectorSet, nearest

Array = NDArray[np.float64]


def drawn(n: int, seed: int, shift: float = 0.0, dim: int = 4) -> Array:
    return np.random.default_rng(seed).normal(size=(n, dim)) + shift


def vectors(values: Array, patients: list[str] | None = None) -> VectorSet:
    return VectorSet.of(values, [f"c{row:04d}" for row in range(len(values))], patients=patients)


def apart(a: Array, b: Array) -> Array:
    return np.array([[np.linalg.norm(x - y) for y in b] for x in a])


def by_definition(real: Array, synthetic: Array, k: int) -> dict[str, float]:
    """The sums of the two papers, pair by pair."""
    own_real, own_synthetic = np.sort(apart(real, real)), np.sort(apart(synthetic, synthetic))
    # Column 0 is the vector itself.
    in_real = apart(real, synthetic) <= own_real[:, k][:, None]
    in_synthetic = apart(real, synthetic) <= own_synthetic[:, k][None, :]
    return {
        "precision": float(in_real.any(axis=0).mean()),
        "recall": float(in_synthetic.any(axis=1).mean()),
        "density": float(in_real.sum() / (k * len(synthetic))),
        "coverage": float(in_real.any(axis=1).mean()),
    }


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_they_are_the_definitions(shift: float) -> None:
    real, synthetic = drawn(40, 0), drawn(30, 1, shift)
    found = coverage_estimates(
        vectors(real), vectors(synthetic), seed=0, name="c", precision_k=4, density_k=4
    )
    values = {metric: estimate.value for metric, estimate in found.items()}
    assert values == pytest.approx(by_definition(real, synthetic, 4))
    for estimate in found.values():
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.value is not None
        assert estimate.low <= estimate.value <= estimate.high
        assert "as it is" in (estimate.note or "")


def test_a_dropped_mode_costs_recall_and_an_invented_one_precision() -> None:
    left, right = drawn(40, 0, -10.0), drawn(40, 1, 10.0)
    both, one = np.concatenate([left, right]), drawn(80, 2, -10.0)
    dropped = coverage_estimates(vectors(both), vectors(one), seed=0, name="c", replicates=20)
    invented = coverage_estimates(vectors(one), vectors(both), seed=0, name="c", replicates=20)
    assert dropped["recall"].value == pytest.approx(0.5, abs=0.1)
    assert dropped["coverage"].value == pytest.approx(0.5, abs=0.1)
    assert invented["precision"].value == pytest.approx(0.5, abs=0.1)
    assert dropped["precision"].value is not None
    assert dropped["precision"].value > 0.8


def test_cases_of_one_patient_are_one() -> None:
    real = drawn(40, 0)
    doubled = vectors(
        np.repeat(drawn(30, 1, 0.5), 2, axis=0) + drawn(60, 2) * 1e-3,
        [f"p{r // 2}" for r in range(60)],
    )
    precision = coverage_estimates(vectors(real), doubled, seed=0, name="c")["precision"]
    assert precision.n == 30
    assert "bootstrap" in precision.how


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, synthetic = vectors(drawn(23, 0)), vectors(drawn(17, 1))
    whole = membership(real, synthetic, 3), nearest(real.values, synthetic.values, 4)
    monkeypatch.setattr(vectors_module, "_ROWS", 5)
    parts = membership(real, synthetic, 3), nearest(real.values, synthetic.values, 4)
    np.testing.assert_array_equal(whole[0].balls, parts[0].balls)
    np.testing.assert_array_equal(whole[0].visited, parts[0].visited)
    np.testing.assert_allclose(whole[1][0], parts[1][0])
    np.testing.assert_array_equal(whole[1][1], parts[1][1])


def test_neighbours_are_the_nearest_and_not_oneself() -> None:
    a, b = drawn(15, 0) + 1e4, drawn(20, 1) + 1e4
    distances, rows = nearest(a, b, 20)
    np.testing.assert_allclose(distances, np.sort(apart(a, b)), rtol=1e-6)
    np.testing.assert_array_equal(rows, np.argsort(apart(a, b)))
    distances, rows = nearest(a, a, 14, itself=True)
    np.testing.assert_allclose(distances, np.sort(apart(a, a))[:, 1:], rtol=1e-6)
    assert not (rows == np.arange(15)[:, None]).any()
    with pytest.raises(ValueError, match="neighbours"):
        nearest(a, a, 15, itself=True)


def test_too_few_cases_are_refused() -> None:
    with pytest.raises(UserError, match="have no 5 neighbours"):
        coverage_estimates(vectors(drawn(40, 0)), vectors(drawn(5, 1)), seed=0, name="c")
