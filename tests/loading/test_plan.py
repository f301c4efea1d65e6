"""Plans are numbers: every event once, the same every time, little padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frz.loading.plan import plan_blocks, plan_epoch, plan_part

lengths = st.lists(st.integers(0, 50), max_size=80).map(lambda values: np.array(values, np.int64))
counts = st.integers(1, 12)


def padded(plan: list[np.ndarray], lengths: np.ndarray) -> int:
    """Members of all batches after padding each to its longest event."""
    return sum(len(batch) * int(lengths[batch].max()) for batch in plan)


def joined(plan: list[np.ndarray]) -> list[int]:
    return np.concatenate([np.empty(0, np.int64), *plan]).tolist()


@given(lengths, counts, counts, st.integers(0, 2**40), st.integers(0, 1000))
def test_an_epoch_holds_every_event_once(
    lengths: np.ndarray, batch_size: int, window: int, seed: int, epoch: int
) -> None:
    plan = plan_epoch(lengths, batch_size, seed=seed, epoch=epoch, window=window)
    assert sorted(joined(plan)) == list(range(len(lengths)))
    assert len(plan) == -(-len(lengths) // batch_size)
    assert sorted(len(batch) for batch in plan)[1:] == [batch_size] * (len(plan) - 1)


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    lengths = np.arange(60) % 7
    orders = {
        (seed, epoch): tuple(joined(plan_epoch(lengths, 8, seed=seed, epoch=epoch, window=3)))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    again = plan_epoch(lengths.astype(np.int32), 8, seed=2, epoch=1, window=3)
    assert tuple(joined(again)) == orders[2, 1]


def test_the_order_is_what_it_always_was() -> None:
    """Runs are continued on other machines and after updates: the bits behind the order never change."""
    plan = plan_epoch(np.array([5, 1, 4, 1, 3, 9, 2, 6]), 3, seed=7, epoch=2, window=2)
    raw = np.random.Philox(key=np.array([7, 2], np.uint64)).random_raw(8)
    shuffled = np.argsort(raw, kind="stable")
    assert sorted(map(len, plan)) == [2, 3, 3]
    assert {frozenset(shuffled[6:].tolist())} <= {frozenset(batch.tolist()) for batch in plan}


@pytest.mark.parametrize("window", [4, 16])
def test_windows_make_padding_small(window: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 1024)
    plain = padded(plan_epoch(lengths, 16, seed=0, epoch=0), lengths)
    sorted_ = padded(plan_epoch(lengths, 16, seed=0, epoch=0, window=window), lengths)
    assert sorted_ - lengths.sum() < 0.5 * (plain - lengths.sum())


def test_a_window_of_all_batches_pads_as_little_as_sorting() -> None:
    lengths = np.random.default_rng(1).integers(0, 30, 96)
    best = sum(8 * int(np.sort(lengths)[end - 1]) for end in range(8, 97, 8))
    assert padded(plan_epoch(lengths, 8, seed=3, epoch=0, window=12), lengths) == best


def test_batches_do_not_come_by_length() -> None:
    lengths = np.arange(256)
    plan = plan_epoch(lengths, 8, seed=0, epoch=0, window=32)
    longest = [int(lengths[batch].max()) for batch in plan]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


@given(lengths, counts, st.one_of(st.none(), st.integers(1, 200)))
def test_a_part_is_planned_by_length(lengths: np.ndarray, batch_size: int, bound: int | None) -> None:
    plan = plan_part(lengths, batch_size, bound)
    order = joined(plan)
    assert order == sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for batch in plan:
        assert 1 <= len(batch) <= batch_size
        if bound is not None and len(batch) > 1:
            assert len(batch) * lengths[batch].max() <= bound


@given(lengths, counts, st.integers(1, 200))
def test_a_bound_makes_no_more_batches_than_it_must(lengths: np.ndarray, batch_size: int, bound: int) -> None:
    plan = plan_part(lengths, batch_size, bound)
    for batch in plan[:-1]:
        longest = int(lengths[batch].max())
        assert len(batch) == batch_size or (len(batch) + 1) * longest > bound


def test_no_events_make_no_batches() -> None:
    empty = np.empty(0, np.int64)
    assert plan_epoch(empty, 4, seed=0, epoch=0, window=2) == []
    assert plan_part(empty, 4, 10) == []


@given(st.integers(0, 120), counts, counts, counts, st.integers(0, 2**40), st.integers(0, 1000))
def test_blocks_hold_every_event_once(n: int, size: int, block: int, n_blocks: int, seed: int, epoch: int) -> None:
    plan = plan_blocks(n, size, seed=seed, epoch=epoch, block=block, shuffle_blocks=n_blocks)
    assert sorted(joined(plan)) == list(range(n))
    assert [len(batch) for batch in plan[:-1]] == [size] * (len(plan) - 1)
    assert len(plan) == -(-n // size)


@given(st.integers(1, 120), counts, counts, st.integers(0, 1000))
def test_events_of_few_blocks_are_together(n: int, block: int, n_blocks: int, seed: int) -> None:
    """Whole blocks, as many as are shuffled together, and then the next ones."""
    order = np.array(joined(plan_blocks(n, 7, seed=seed, epoch=0, block=block, shuffle_blocks=n_blocks)))
    blocks = order // block
    seen, begin = set[int](), 0
    while begin < n:
        together = list(dict.fromkeys(blocks[begin:].tolist()))[:n_blocks]
        size = sum(min(block, n - block * b) for b in together)
        assert not seen & set(together)
        inside = sorted(order[begin : begin + size].tolist())
        assert inside == sorted(i for b in together for i in range(block * b, min(n, block * (b + 1))))
        seen |= set(together)
        begin += size


def test_a_window_of_all_blocks_is_the_full_shuffle() -> None:
    full = joined(plan_epoch(np.zeros(100), 100, seed=3, epoch=1))
    for block, n_blocks in ((10, 10), (7, 15), (100, 1), (1, 100), (256, 512)):
        assert joined(plan_blocks(100, 8, seed=3, epoch=1, block=block, shuffle_blocks=n_blocks)) == full


def test_the_order_of_blocks_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(joined(plan_blocks(60, 8, seed=seed, epoch=epoch, block=4, shuffle_blocks=3)))

    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    assert order(2, 1) == order(2, 1)
    raw = np.random.Philox(key=np.array([2, 1], np.uint64)).random_raw(75)
    first_blocks = np.argsort(raw[60:], kind="stable")[:3]
    assert {i // 4 for i in order(2, 1)[:12]} == set(first_blocks.tolist())
