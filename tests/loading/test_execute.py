"""The thread ahead: order, bounds, errors, and that it is gone afterwards."""

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from frz.loading.execute import AHEAD, ahead, iterate
from frz.store.schema import Array, Axis, Schema
from frz.store.table import EventTable


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "frz-ahead"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    assert threads() == []
    yield
    assert threads() == []


def test_items_come_in_order() -> None:
    assert list(ahead(range(100), lambda item: item * item)) == [item * item for item in range(100)]
    assert list(ahead([], str)) == []


def test_none_is_an_item_like_any_other() -> None:
    assert list(ahead([1, 2], lambda item: None)) == [None, None]


def test_the_thread_stays_a_bounded_number_of_items_ahead() -> None:
    made: list[int] = []
    for taken, _ in enumerate(ahead(range(200), made.append), start=1):
        assert len(made) <= taken + AHEAD


def test_items_are_made_before_they_are_asked_for() -> None:
    """Item 1 is made while item 0 is in use: waiting for it here would hang otherwise."""
    made = threading.Event()
    items = ahead(range(3), lambda item: made.set() if item == 1 else None)
    next(items)
    assert made.wait(timeout=60)
    items.close()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_consumer_may_stop_early(taken: int) -> None:
    made: list[int] = []
    items = ahead(range(10**9), made.append)
    for _ in range(taken):
        next(items)
    items.close()
    assert threads() == []
    assert len(made) <= taken + AHEAD + 1


def test_dropping_the_generator_ends_the_thread() -> None:
    items = ahead(range(10**9), str)
    next(items)
    del items
    gc.collect()
    assert threads() == []


@pytest.mark.parametrize("where", ["make", "work"])
def test_an_error_is_raised_in_its_place(where: str) -> None:
    def work() -> Iterator[int]:
        yield from range(3)
        if where == "work":
            raise ValueError("item 3")
        yield 3

    def make(item: int) -> int:
        if item == 3:
            raise ValueError("item 3")
        return item

    got = []
    with pytest.raises(ValueError, match="item 3"):
        got.extend(iter_into(got, ahead(work(), make)))
    assert got == [0, 1, 2]


def iter_into(got: list[int], items: Iterator[int]) -> list[int]:
    for item in items:
        got.append(item)
    return []


def table() -> EventTable:
    schema = Schema(
        axes={"hit": Axis(), "track": Axis()},
        arrays={
            "event/id": Array(dtype="int64"),
            "hit/x": Array(dtype="float32"),
            "track/first": Array(dtype="int32", refers_to="hit"),
        },
    )
    arrays = {
        "event/id": np.arange(4) + 10,
        "hit/offsets": np.array([0, 2, 2, 5, 6]),
        "hit/x": np.arange(6, dtype="float32"),
        "track/offsets": np.array([0, 1, 1, 3, 4]),
        "track/first": np.array([1, 0, 2, 0], "int32"),
    }
    return EventTable(schema, arrays)


def test_batches_hold_the_planned_events() -> None:
    plan = [np.array([3, 2]), np.array([0, 1])]
    first, second = iterate(table(), plan, ["event/id", "hit/x", "track/first"])
    assert first["event/id"].tolist() == [13, 12]
    assert first["hit/x"].tolist() == [5, 2, 3, 4]
    assert first["hit/offsets"].tolist() == [0, 1, 4]
    assert first["track/first"].tolist() == [0, 1, 3]
    assert second["track/first"].tolist() == [1]
    assert second["hit/x"].tolist() == [0, 1]


def test_references_need_not_bring_what_they_refer_to() -> None:
    (batch,) = iterate(table(), [np.array([2, 0])], ["track/first"])
    assert set(batch) == {"track/first", "track/offsets", "hit/offsets"}
    assert torch.equal(batch["track/first"], torch.tensor([0, 2, 4]))
