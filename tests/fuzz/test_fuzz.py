"""Some hundred spoilt inputs of every kind: each is taken or refused in one message."""

from __future__ import annotations

import numpy as np

from fuzz.doors import DOORS
from fuzz.mutate import EXTREMES, spoilt
from fuzz.run import Found, attack

COUNT = 12 * len(DOORS)


def test_spoilt_inputs_are_taken_or_refused_in_one_message() -> None:
    """As `make fuzz`, which tries thousands; these numbers are not among those it begins with."""
    found = attack(1_000_000, COUNT)
    assert found.wrong == []
    assert found.outcomes.total() == COUNT
    for name in DOORS:
        # What is spoilt matters, and not everything is refused.
        assert found.outcomes[f"{name}: refused"] > 0, name
        assert found.outcomes[f"{name}: taken"] > 0, name


def test_a_number_is_the_same_damage_every_time() -> None:
    text = b"a: 1\nb: [2, 3]\n"
    first = [spoilt(text, np.random.default_rng(n)) for n in range(50)]
    assert first == [spoilt(text, np.random.default_rng(n)) for n in range(50)]
    assert len({data for data, _ in first}) > 40
    assert len(set(EXTREMES)) == len(EXTREMES)


def test_what_went_wrong_is_counted_and_told() -> None:
    found = Found()
    for outcome in ("taken", "refused", "refused"):
        found.outcomes[f"a: {outcome}"] += 1
    found.outcomes["b: wrong"] += 1
    assert "| a | 3 | 1 | 2 | 0 |" in found.table()
    assert "| b | 1 | 0 | 0 | 1 |" in found.table()
    assert "| all | 4 | 1 | 2 | 1 |" in found.table()
