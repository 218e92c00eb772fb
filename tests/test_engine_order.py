"""The order of training is a function of (seed, step)."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from voxella.engine.order import DataOrder

sizes = st.integers(1, 30)


@given(count=sizes, batch=sizes, seed=st.integers(0, 10), epochs=st.integers(1, 4))
def test_every_case_is_seen_equally_often(count: int, batch: int, seed: int, epochs: int) -> None:
    order = DataOrder([f"c{i}" for i in range(count)], seed=seed, batch_size=batch)
    steps = order.steps(epochs)
    keys = [key for step in range(steps) for key in order.step(step)]
    whole = keys[: count * epochs]
    assert Counter(v.case_id for v in whole) == {f"c{i}": epochs for i in range(count)}
    assert len(set(keys)) == len(keys)  # a case never meets the same noise twice
    assert (steps - 1) * batch < count * epochs <= steps * batch


@given(data=st.data(), world=st.sampled_from([1, 2, 4]), accumulation=st.sampled_from([1, 2]))
def test_processes_and_accumulation_only_cut_the_step(
    data: st.DataObject, world: int, accumulation: int
) -> None:
    order = DataOrder([f"c{i}" for i in range(11)], seed=3, batch_size=8)
    step = data.draw(st.integers(0, 20))
    parts = [
        order.micro_batches(step, rank=rank, world=world, accumulation=accumulation)
        for rank in range(world)
    ]
    together = [
        v for micro in range(accumulation) for rank in range(world) for v in parts[rank][micro]
    ]
    assert together == order.step(step)


def test_the_order_of_the_input_does_not_matter_and_the_seed_does() -> None:
    ids = [f"c{i}" for i in range(20)]
    order = DataOrder(ids, seed=1, batch_size=20)
    assert order.step(0) == DataOrder(ids[::-1], seed=1, batch_size=20).step(0)
    assert order.step(0) != DataOrder(ids, seed=2, batch_size=20).step(0)
    first, second = ([v.case_id for v in order.step(s)] for s in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second) == sorted(ids)


def test_removing_a_case_leaves_the_others_in_order() -> None:
    ids = [f"c{i}" for i in range(20)]
    order = [v.case_id for v in DataOrder(ids, seed=1, batch_size=20).step(0)]
    without = [v.case_id for v in DataOrder(ids[1:], seed=1, batch_size=19).step(0)]
    assert without == [case for case in order if case != "c0"]
