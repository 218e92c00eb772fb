"""KID over patients: the definition, the estimator for independent vectors, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics.pairwise import polynomial_kernel

from voxella.errors import UserError
from voxella.metrics.distances.kernel import (
    patient_kernel_baseline,
    patient_kernel_estimate,
    patient_kernels,
)
from voxella.metrics.estimate import Estimate
from voxella.metrics.vectors import VectorSet

Array = NDArray[np.float64]


def vectors(values: Array, each: int = 1, what: str = "p") -> VectorSet:
    """``each`` rows a patient."""
    ids = [f"{what}{row // each:03d}" for row in range(len(values))]
    return VectorSet.of(values, ids, what=what)


def slices(patients: int, each: int, seed: int, shift: float = 0.0) -> Array:
    """Rows of one patient are alike."""
    generator = np.random.default_rng(seed)
    own = generator.normal(size=(patients, 1, 4))
    rows = own + 0.3 * generator.normal(size=(patients, each, 4)) + shift
    return np.asarray(rows.reshape(-1, 4))


def independent(x: Array, y: Array) -> float:
    """Gretton et al. 2012, lemma 6, over scikit-learn's kernel: vectors taken for independent."""
    (n, d), m = x.shape, len(y)
    xx, yy, xy = (
        polynomial_kernel(a, b, degree=3, gamma=1 / d, coef0=1) for a, b in ((x, x), (y, y), (x, y))
    )
    within_x = (xx.sum() - np.trace(xx)) / (n * (n - 1))
    within_y = (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * xy.mean())


def test_one_vector_a_patient_is_the_estimator_for_independent_ones() -> None:
    x, y = slices(14, 1, 0), slices(11, 1, 1, 0.4)
    ours = patient_kernel_estimate(patient_kernels(vectors(x, what="x"), vectors(y, what="y")))
    assert ours.value == pytest.approx(independent(x, y), rel=1e-12)


def test_it_is_unbiased_and_its_error_is_right() -> None:
    """300 experiments: no distance on average, at any N; the told error is their spread."""

    def estimate(seed: int, patients: tuple[int, int], shift: float) -> Estimate:
        x, y = slices(patients[0], 1, 2 * seed), slices(patients[1], 1, 2 * seed + 1, shift)
        return patient_kernel_estimate(patient_kernels(vectors(x), vectors(y, what="y")))

    null = np.array([estimate(seed, (15, 20), 0.0).value for seed in range(300)], dtype=float)
    assert abs(null.mean()) < 3 * null.std() / np.sqrt(300)
    assert (null < 0).any()
    apart = [estimate(seed, (30, 30), 0.5) for seed in range(300)]
    spread = np.std([found.value or 0.0 for found in apart])
    told = np.mean([((f.high or 0.0) - (f.low or 0.0)) / 2 / 1.96 for f in apart])
    assert told == pytest.approx(spread, rel=0.2)


def test_pairs_within_a_set_are_of_two_patients() -> None:
    x, y = slices(5, 3, 0), slices(4, 2, 1, 0.5)

    def k(a: Array, b: Array) -> float:
        return float((a @ b / 4 + 1.0) ** 3)

    within_x = [k(x[i], x[j]) for i in range(15) for j in range(15) if i // 3 != j // 3]
    within_y = [k(y[i], y[j]) for i in range(8) for j in range(8) if i // 2 != j // 2]
    across = [k(a, b) for a in x for b in y]
    expected = np.mean(within_x) + np.mean(within_y) - 2 * np.mean(across)
    kernels = patient_kernels(vectors(x, 3), vectors(y, 2))
    assert kernels.distance() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("paired", [False, True])
def test_the_error_is_the_jackknifes(paired: bool) -> None:
    x, y = slices(6, 3, 0), slices(6, 2, 1, 0.5)
    whole = patient_kernel_estimate(patient_kernels(vectors(x, 3), vectors(y, 2)), paired=paired)

    def without(patient: int, of_x: bool, of_y: bool) -> float:
        a = np.delete(x, range(3 * patient, 3 * patient + 3), axis=0) if of_x else x
        b = np.delete(y, range(2 * patient, 2 * patient + 2), axis=0) if of_y else y
        return patient_kernels(vectors(a, 3), vectors(b, 2)).distance()

    sides = [(True, True)] if paired else [(True, False), (False, True)]
    variance = 0.0
    for of_x, of_y in sides:
        left = np.array([without(patient, of_x, of_y) for patient in range(6)])
        variance += ((left - left.mean()) ** 2).sum() * 5 / 6
    assert whole.high is not None
    assert whole.value is not None
    assert whole.high - whole.value == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-5)


def test_few_patients_with_many_slices_are_not_biased() -> None:
    """Real against real is zero on average; taken as independent, slices put it well above."""
    ours, theirs, covered = [], [], 0
    for seed in range(150):
        x = vectors(slices(8, 5, 2 * seed), 5, "x")
        y = vectors(slices(8, 5, 2 * seed + 1), 5, "y")
        found = patient_kernel_estimate(patient_kernels(x, y))
        assert found.low is not None
        assert found.high is not None
        ours.append(found.value)
        theirs.append(independent(x.rows(slice(None)), y.rows(slice(None))))
        covered += found.low <= 0 <= found.high
    error = np.std(np.array(ours)) / np.sqrt(150)
    assert abs(np.mean(np.array(ours))) < 3 * error
    assert np.mean(np.array(theirs)) > 6 * error
    assert 0.85 * 150 < covered


def test_the_baseline_is_of_halves_of_the_real_patients() -> None:
    x = vectors(slices(10, 2, 0), 2)
    floor = patient_kernel_baseline(patient_kernels(x, x), seed=0, name="f", repeats=7, size=4)
    assert (floor.n, floor.how) == (4, "7 splits of real cases into two sets of 4 patients")
    assert floor.low is not None
    assert floor.high is not None
    assert floor.low < 0 < floor.high


def test_two_patients_are_refused() -> None:
    with pytest.raises(UserError, match=r"KID of 2 case\(s\)"):
        patient_kernels(vectors(slices(2, 5, 0), 5), vectors(slices(9, 5, 1), 5))
    x, y = vectors(slices(3, 1, 0), what="x"), vectors(slices(3, 1, 1), what="y")
    kernels = patient_kernels(x, y)
    with pytest.raises(ValueError, match="the same patients"):
        patient_kernel_estimate(kernels, paired=True)
