"""Agreement of readers, held to published examples and to what a second library printed for them.

Sources. Fleiss' 14 readers: the example of Wikipedia's page on Fleiss' kappa, 0.210, which
statsmodels' own test (stats/tests/test_inter_rater.py) holds its code to. Fixed-marginal kappas of
small tables: the online calculator of J. Randolph, from the same test. Cohen: the SAS example there
(0.4842 of 19 cases; simple 0.3333 of 72), and Wikipedia's 2 x 2 tables (0.4, 0.1304, 0.2593).
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from voxella.readers.agreement import agreement, cohen_kappa, fleiss_kappa

FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def of_counts(table: list[list[int]]) -> NDArray[np.int64]:
    """Return answers, a row for each case, that have these counts of each category."""
    return np.array([np.repeat(np.arange(len(row)), row) for row in table])


def of_pairs(table: list[list[int]]) -> NDArray[np.int64]:
    """Return two readers' answers that have this table of one against the other."""
    pairs = [[(i, j)] * n for i, row in enumerate(table) for j, n in enumerate(row)]
    return np.array([pair for some in pairs for pair in some])


@pytest.mark.parametrize(
    ("table", "published", "within"),
    [
        (FLEISS, 0.210, 5e-4),
        ([[7, 1], [3, 5]], 0.161905, 1e-6),
        ([[7, 0], [0, 7]], 1.0, 1e-12),
        ([[6, 1, 0], [0, 7, 0]], 0.708333, 1e-6),
    ],
)
def test_fleiss_is_as_published(table: list[list[int]], published: float, within: float) -> None:
    found = fleiss_kappa(of_counts(table), len(table[0]))
    assert found == pytest.approx(published, abs=within)


@pytest.mark.parametrize(
    ("table", "published"),
    [
        ([[20, 5], [10, 15]], 0.4),
        ([[45, 15], [25, 15]], 0.1304),
        ([[25, 35], [5, 35]], 0.2593),
        ([[0, 4, 1], [0, 8, 0], [0, 1, 5]], 0.4842),
        ([[0, 0, 0], [5, 16, 3], [8, 12, 28]], 0.3333),
    ],
)
def test_cohen_is_as_published(table: list[list[int]], published: float) -> None:
    assert cohen_kappa(of_pairs(table), len(table)) == pytest.approx(published, abs=5e-5)


def test_quadratic_weights_are_the_closed_form() -> None:
    ratings = of_pairs([[9, 3, 0], [2, 7, 4], [1, 2, 8]])
    first, second = ratings.T.astype(float)
    # Cohen 1968: one less the mean squared distance over that of independent readers.
    by_chance = ((first[:, None] - second[None]) ** 2).mean()
    expected = 1 - ((first - second) ** 2).mean() / by_chance
    assert cohen_kappa(ratings, 3, ordered=True) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ordered", [False, True])
def test_cohen_is_what_a_second_library_says(ordered: bool) -> None:
    draw = np.random.default_rng(3)
    for categories in (2, 5):
        for _ in range(5):
            ratings = draw.integers(0, categories, (23, 2))
            ratings[:9, 1] = ratings[:9, 0]
            weights = "quadratic" if ordered else None
            labels = range(categories)
            known = cohen_kappa_score(*ratings.T, labels=labels, weights=weights)
            found = cohen_kappa(ratings, categories, ordered=ordered)
            assert found == pytest.approx(known, abs=1e-12)


def test_the_interval_covers_as_stated() -> None:
    """Two readers who each see the truth with 85 %: kappa is 2(0.85^2 + 0.15^2) - 1 = 0.49."""
    true, covered, runs = 2 * (0.85**2 + 0.15**2) - 1, 0, 60
    for run in range(runs):
        draw = np.random.default_rng(run)
        truth = np.arange(60) % 2
        ratings = np.stack([truth ^ (draw.random(60) < 0.15) for _ in range(2)], axis=1)
        groups = [f"c{case}" for case in range(60)]
        found = agreement(ratings, groups, 2, seed=run, name="kappa", replicates=150)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= true <= found.high
    # Of 60 intervals that cover with 95 %, 50 or fewer would with 0.1 %.
    assert covered > 50


def test_what_cannot_be_told_is_undefined() -> None:
    same = np.zeros((8, 2), dtype=np.int64)
    groups = [f"c{case}" for case in range(8)]
    for ratings in (same, np.zeros((8, 3), dtype=np.int64)):
        found = agreement(ratings, groups, 2, seed=0, name="kappa", replicates=20)
        assert found.value is None
        assert "one category" in str(found.note)
    alone = agreement(same[:, :1], groups, 2, seed=0, name="kappa")
    assert "one reader" in str(alone.note)
    assert "by all" in str(agreement(same[:0], [], 2, seed=0, name="kappa").note)
