"""Intervals over trainings and patients, against simulated data whose variances are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, t

from voxella.metrics.bootstrap import replicate_draws
from voxella.metrics.estimate import Estimate
from voxella.study.two_level import (
    TwoLevelEstimate,
    covariance_of_draws,
    covariance_of_errors,
    covariance_without_each,
    smallest_difference,
    two_level,
)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Standard deviations of what numbers are made of, and how many there are.

    Attributes:
        training: Of a training's own level.
        patient: Of a patient, the same for both recipes.
        recipe: Of how much better a patient fares under one recipe.
        luck: Of one training on one patient.
    """

    training: float
    patient: float
    recipe: float
    luck: float
    k: int = 3
    n: int = 150

    @property
    def error(self) -> float:
        """The true standard error of the difference of the two recipes' means."""
        per_recipe = self.training**2 / self.k + self.recipe**2 / self.n
        return math.sqrt(2 * (per_recipe + self.luck**2 / (self.k * self.n)))

    def draw(self, generator: np.random.Generator, difference: float = 0.0) -> list[Values]:
        """Return ``(K, N)`` of both recipes, the first better by so much."""
        shared = generator.normal(0, self.patient, self.n)
        return [
            shift
            + generator.normal(0, self.training, (self.k, 1))
            + shared
            + generator.normal(0, self.recipe, self.n)
            + generator.normal(0, self.luck, (self.k, self.n))
            for shift in (difference, 0.0)
        ]


def estimate(sides: list[Values]) -> TwoLevelEstimate:
    """As from a study; of means the covariance over patients is known without draws."""
    n = sides[0].shape[1]
    return two_level([y.mean(axis=1) for y in sides], np.cov(np.concatenate(sides)) / n, n=n)


def simulate(world: World, difference: float = 0.0, times: int = 1500) -> list[TwoLevelEstimate]:
    generator = np.random.default_rng(7)
    return [estimate(world.draw(generator, difference)) for _ in range(times)]


WORLDS = {
    "both levels": World(0.05, 1.0, 0.5, 0.2),
    "both levels, five trainings": World(0.1, 1.0, 0.8, 0.5, k=5),
    "patients alone": World(0.0, 1.0, 0.7, 0.0),
    "trainings alone": World(0.5, 1.0, 0.0, 0.0, k=4),
    "the luck of trainings with patients": World(0.0, 1.0, 0.0, 1.0),
    "two trainings": World(0.05, 1.0, 0.5, 0.2, k=2),
    "few patients": World(0.05, 1.0, 0.5, 0.2, n=20),
}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
def test_the_interval_covers_the_truth_as_often_as_it_says(world: World) -> None:
    found = simulate(world)
    covered = np.mean([one.low <= 0 <= one.high for one in found])  # type: ignore[operator]
    # 0.95 within what 1500 simulations leave open, and a little on the safe side at few degrees.
    assert 0.93 <= covered <= 0.985
    # The variance is estimated without bias; it cannot be below 0, which lifts it where it is near.
    variance = np.mean([one.error**2 for one in found])
    assert variance == pytest.approx(world.error**2, rel=0.12)


def test_patients_alone_would_claim_too_much() -> None:
    """What the intervals of single trainings do: they do not see another training."""
    world = World(0.3, 1.0, 0.3, 0.1)
    generator = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        ours, theirs = (y[0] for y in world.draw(generator))
        error = (ours - theirs).std(ddof=1) / math.sqrt(world.n)
        wrong += abs((ours - theirs).mean()) > 1.96 * error
    assert wrong / 400 > 0.5
    decided = [one.low > 0 or one.high < 0 for one in simulate(world, times=400)]  # type: ignore[operator]
    assert np.mean(decided) < 0.08


@pytest.mark.parametrize(
    "world", [WORLDS["both levels"], WORLDS["both levels, five trainings"], World(0, 1, 0.6, 0.3)]
)
def test_the_smallest_difference_is_decided_as_often_as_it_says(world: World) -> None:
    sizes = [smallest_difference(one) for one in simulate(world, times=400)]
    smallest = float(np.mean([size for size in sizes if size is not None]))
    found = simulate(world, smallest)
    decided = np.mean([one.low > 0 for one in found])  # type: ignore[operator]
    assert decided == pytest.approx(0.8, abs=0.05)


def test_the_smallest_difference_of_a_usual_interval_is_the_textbooks() -> None:
    """1.96 + 0.84 standard errors: two groups of 63 show half a standard deviation."""
    error = math.sqrt(2 / 63)
    found = smallest_difference(Estimate(0.0, -1.959964 * error, 1.959964 * error, 63))
    assert found == pytest.approx(0.5, abs=0.002)
    assert smallest_difference(Estimate(0.0, None, None, 63)) is None


def test_an_analysis_of_variance_gives_the_same() -> None:
    """One recipe; mean squares of a two-way layout without replication, by hand (Searle 1992)."""
    y = np.random.default_rng(1).normal(size=(4, 12)) + np.arange(4)[:, None]
    y += 2 * np.random.default_rng(2).normal(size=12)
    k, n = y.shape
    rows, columns = y.mean(axis=1), y.mean(axis=0)
    residual = y - rows[:, None] - columns + y.mean()
    of_rows = n * rows.var(ddof=1)
    of_columns = k * columns.var(ddof=1)
    of_rest = (residual**2).sum() / ((k - 1) * (n - 1))
    variance = (of_rows + of_columns - of_rest) / (k * n)
    found = two_level([rows], np.cov(y) / n, n=n)
    assert found.value == pytest.approx(y.mean())
    assert found.error == pytest.approx(math.sqrt(variance))
    parts = [(of_rows / (k * n), k - 1), ((of_columns - of_rest) / (k * n), n - 1)]
    degrees = variance**2 / sum(part**2 / df for part, df in parts)
    assert found.degrees == pytest.approx(degrees)
    assert found.high == pytest.approx(y.mean() + t.ppf(0.975, degrees) * math.sqrt(variance))
    assert found.trainings == pytest.approx(of_rows / (k * n) / variance)


def test_draws_and_the_jackknife_find_the_covariance_of_means() -> None:
    y = np.random.default_rng(4).normal(size=(3, 40)) + np.random.default_rng(5).normal(size=40)
    known = np.cov(y) / 40
    without = (y.sum(axis=1, keepdims=True) - y) / 39
    assert covariance_without_each(without) == pytest.approx(known)
    names = [f"p{number:02d}" for number in range(40)]
    draws = replicate_draws([names], seed=0, name="x", paired=False, replicates=4000)
    drawn = np.array([y[:, rows].mean(axis=1) for (rows,) in draws]).T
    # The bootstrap's divides by N, not N - 1; 4000 draws leave some per cent open.
    assert covariance_of_draws(drawn) == pytest.approx(known * 39 / 40, rel=0.1)
    drawn[0, 0] = np.nan
    assert np.isfinite(covariance_of_draws(drawn)).all()


def test_errors_alone_are_taken_to_be_shared() -> None:
    """Equal trainings, of which only intervals are known: no better known than one."""
    values = np.array([0.8, 0.8, 0.8])
    found = two_level([values], covariance_of_errors(np.full(3, 0.05)), n=60)
    assert found.error == pytest.approx(0.05)
    assert found.degrees == pytest.approx(59)
    apart = two_level(
        [values + np.array([0, 0.1, 0.2])], covariance_of_errors(np.full(3, 0.05)), n=60
    )
    assert apart.error == pytest.approx(math.sqrt(0.05**2 + 0.1**2 / 3))


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(ValueError, match="of one training nothing is known"):
        two_level([np.array([1.0])], np.eye(1), n=10)
    with pytest.raises(ValueError, match="a covariance of"):
        two_level([np.array([1.0, 2.0])], np.eye(3), n=10)
    same = two_level([np.ones(2), np.ones(2)], np.zeros((4, 4)), n=10)
    assert (same.value, same.low, same.high, same.error) == (0.0, 0.0, 0.0, 0.0)
    assert float(norm.ppf(0.975)) < float(t.ppf(0.975, same.degrees or 0))
