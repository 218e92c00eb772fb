"""Planted copies are found, generalisation is not accused, and chance is what was promised."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.metrics.memorisation import isolation, memorisation
from voxella.metrics.vectors import VectorSet

Array = NDArray[np.float64]


def drawn(n: int, seed: int, dim: int = 8) -> Array:
    return np.random.default_rng(seed).normal(size=(n, dim))


def vectors(values: Array, what: str) -> VectorSet:
    return VectorSet.of(values, [f"{what}{row:04d}" for row in range(len(values))], what=what)


TRAINING, UNSEEN = vectors(drawn(200, 0), "t"), vectors(drawn(60, 1), "u")


def test_the_ratio_is_its_definition() -> None:
    queries = vectors(drawn(5, 2), "s")
    distances, ratios, rows = isolation(queries, TRAINING, neighbours=50)
    for query, distance, ratio, row in zip(queries.values, distances, ratios, rows, strict=True):
        all_of_them = np.linalg.norm(TRAINING.values - query, axis=1)
        order = np.argsort(all_of_them)
        assert row == order[0]
        assert distance == pytest.approx(all_of_them[order[0]])
        assert ratio == pytest.approx(all_of_them[order[0]] / all_of_them[order[1:51]].mean())


def test_planted_copies_are_caught_and_named() -> None:
    values = drawn(40, 2)
    values[7] = TRAINING.values[123]
    values[31] = TRAINING.values[5] + 0.02 * drawn(1, 3)[0]
    found = memorisation(vectors(values, "s"), TRAINING, UNSEEN)
    assert [(pair.synthetic, pair.training) for pair in found.worst[:2]] == [
        ("s0007", "t0123"),
        ("s0031", "t0005"),
    ]
    assert all(pair.suspected for pair in found.worst[:2])
    assert found.worst[0].ratio == pytest.approx(0.0, abs=1e-6)
    assert found.worst[0].p_value == pytest.approx(1 / 61)
    assert json.loads(json.dumps(found.as_json()))["worst"][0]["training"] == "t0123"


def test_a_generator_that_copies_is_told_from_one_that_does_not() -> None:
    copies = TRAINING.values[:50] + 0.05 * drawn(50, 4)
    copying = memorisation(vectors(copies, "s"), TRAINING, UNSEEN)
    honest = memorisation(vectors(drawn(50, 5), "s"), TRAINING, UNSEEN)
    assert copying.share.value == 1.0
    assert copying.share.low is not None
    assert copying.share.low > copying.false_alarms
    assert honest.share.low is not None
    assert honest.share.low < honest.false_alarms


def test_smooth_volumes_are_not_accused_for_lying_in_the_middle() -> None:
    """Blurry volumes are nearer to everything than real ones are; raw distance would accuse all."""
    blurred = vectors(drawn(50, 6) * 0.3, "s")
    distances = isolation(blurred, TRAINING)[0]
    of_unseen = isolation(UNSEEN, TRAINING)[0]
    assert np.mean(distances < np.quantile(of_unseen, 0.05)) > 0.3
    found = memorisation(blurred, TRAINING, UNSEEN)
    assert found.share.value is not None
    assert found.share.value < 0.1


def test_false_alarms_are_as_rare_as_stated() -> None:
    """New real cases as if they were synthetic: 100 experiments of 20 unseen and 40 new cases."""
    shares, expected = [], 0.0
    for trial in range(100):
        pool = drawn(160, 100 + trial, dim=3)
        found = memorisation(
            vectors(pool[:40], "s"),
            vectors(pool[60:], "t"),
            vectors(pool[40:60], "u"),
            false_alarms=0.1,
        )
        shares.append(found.share.value or 0.0)
        expected = found.false_alarms
    assert expected == pytest.approx(2 / 21)
    assert np.mean(shares) == pytest.approx(expected, abs=0.03)


def test_few_unseen_cases_are_admitted() -> None:
    few = vectors(drawn(4, 1), "u")
    found = memorisation(vectors(drawn(10, 2), "s"), TRAINING, few)
    assert found.false_alarms == pytest.approx(0.2)
    assert "too few unseen cases for 0.05" in (found.share.note or "")
    # A leak in the real data must not raise the bar above exact copies.
    leaked = vectors(np.concatenate([drawn(3, 1), TRAINING.values[:1]]), "u")
    copied = memorisation(vectors(TRAINING.rows(slice(9, 10)), "s"), TRAINING, leaked)
    assert copied.worst[0].suspected
    assert "themselves copies" in (copied.share.note or "")


def test_a_case_that_falls_back_to_its_own_source_is_counted() -> None:
    values = TRAINING.values[:20] + 0.05 * drawn(20, 4)
    synthetic = vectors(values, "s")
    sources = {f"s{row:04d}": f"t{row:04d}" for row in range(15)}
    own = memorisation(synthetic, TRAINING, UNSEEN, sources=sources).own_source
    assert own is not None
    assert own.value == 1.0
    assert own.n == 15
    assert memorisation(synthetic, TRAINING, UNSEEN).own_source is None


def test_a_generator_that_copies_everything_falls_back_on_every_source() -> None:
    """Cases made from reports the model has not learnt from have no source among training cases."""
    copies = vectors(TRAINING.rows(slice(0, 20)), "s")
    learnt = {f"s{row:04d}": f"t{row:04d}" for row in range(14)}
    held_out = {f"s{row:04d}": f"u{row:04d}" for row in range(14, 20)}
    own = memorisation(copies, TRAINING, UNSEEN, sources=learnt | held_out).own_source
    assert own is not None
    assert (own.value, own.n) == (1.0, 14)
    nothing = memorisation(copies, TRAINING, UNSEEN, sources=held_out).own_source
    assert nothing is not None
    assert (nothing.value, nothing.n) == (None, 0)
    assert "report of a training case" in (nothing.note or "")


def test_degenerate_and_mixed_up_sets() -> None:
    same = vectors(np.ones((5, 3)), "t")
    distances, ratios, _ = isolation(vectors(np.ones((1, 3)), "s"), same)
    assert (distances[0], ratios[0]) == (0.0, 0.0)
    with pytest.raises(UserError, match="2 training vectors"):
        isolation(UNSEEN, vectors(drawn(2, 0), "t"))
    with pytest.raises(UserError, match=r"60 unseen case\(s\) are of patients in training"):
        memorisation(vectors(drawn(5, 2), "s"), UNSEEN, UNSEEN)
