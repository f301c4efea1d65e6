"""Batches gathered from tensors are those that numpy makes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ragged_events import SCHEMA, events

from frz.loading.batch import to_batch
from frz.loading.held import HeldEvents, held_names
from frz.store.table import EventTable

N = 23
TABLE = EventTable(SCHEMA, events(N))


def held(*names: str) -> HeldEvents:
    wanted = held_names(names or SCHEMA.arrays, SCHEMA)
    return HeldEvents(((name, TABLE.array(name)) for name in wanted), SCHEMA, torch.device("cpu"))


ALL = held()


@given(st.lists(st.integers(0, N - 1), max_size=40))
def test_every_kind_of_array_is_gathered_as_numpy_does(chosen: list[int]) -> None:
    positions = np.array(chosen, np.int64)
    expected = to_batch(TABLE.events(positions), SCHEMA)
    found = ALL.take(positions)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        assert torch.equal(found[name], values), name


@given(st.lists(st.lists(st.integers(0, N - 1), max_size=9), min_size=1, max_size=6))
def test_batches_that_are_gathered_together_are_the_same(chosen: list[list[int]]) -> None:
    plan = [np.array(batch, np.int64) for batch in chosen]
    for positions, found in zip(plan, ALL.batches(plan), strict=True):
        expected = to_batch(TABLE.events(positions), SCHEMA)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype, name
            assert torch.equal(found[name], values), name


def test_there_is_something_to_refer_to() -> None:
    batch = ALL.take(np.arange(N))
    assert batch["query/first"].min() == -1
    assert len(batch["pair/hit"]) > 10


@pytest.mark.parametrize("names", [["event/id"], ["pair/hit"], ["query/first"], ["twin/z"]])
def test_a_name_brings_the_offsets_that_it_needs(names: list[str]) -> None:
    positions = np.array([4, 2, 2])
    found = held(*names).take(positions)
    whole = to_batch(TABLE.events(positions), SCHEMA)
    assert found.keys() == set(held_names(names, SCHEMA))
    assert all(torch.equal(found[name], whole[name]) for name in found)


def test_batches_share_no_memory_with_what_is_held() -> None:
    batch = ALL.take(np.arange(N))
    for values in batch.values():
        values.zero_()
    assert ALL.take(np.array([5]))["event/id"].tolist() == [105]
