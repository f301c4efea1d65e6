"""Batches of a reader for the training loop."""

import numpy as np
import pytest

from frz.loading.source import ReaderSource, event_lengths
from frz.store.schema import Array, Axis, Schema
from frz.store.table import EventTable

N_EVENTS = 37


@pytest.fixture
def table() -> EventTable:
    rng = np.random.default_rng(0)
    hits, tracks = rng.integers(0, 20, N_EVENTS), rng.integers(0, 3, N_EVENTS)
    schema = Schema(
        axes={"hit": Axis(), "track": Axis(), "query": Axis(length=50)},
        arrays={
            "event/id": Array(dtype="int64"),
            "hit/x": Array(dtype="float32"),
            "track/pt": Array(dtype="float32"),
            "query/y": Array(dtype="float32"),
        },
    )
    arrays = {
        "event/id": np.arange(N_EVENTS),
        "hit/offsets": np.concatenate([[0], np.cumsum(hits)]),
        "hit/x": np.ones(hits.sum(), "float32"),
        "track/offsets": np.concatenate([[0], np.cumsum(tracks)]),
        "track/pt": np.ones(tracks.sum(), "float32"),
        "query/y": np.ones(50 * N_EVENTS, "float32"),
    }
    return EventTable(schema, arrays)


def test_lengths_are_those_of_the_fullest_ragged_axis(table: EventTable) -> None:
    assert event_lengths(table, ["track/pt", "hit/x", "query/y"]).tolist() == table.lengths("hit").tolist()
    assert event_lengths(table, ["track/pt", "event/id"]).tolist() == table.lengths("track").tolist()
    assert event_lengths(table, ["event/id", "query/y"]).tolist() == [0] * N_EVENTS


def test_only_the_events_of_the_split_are_used(table: EventTable) -> None:
    split = np.arange(3, N_EVENTS, 4)
    source = ReaderSource(table, ["event/id", "hit/x"], 4, positions=split, window=2)
    assert source.n_events == len(split)
    for epoch in range(2):
        got = [batch["event/id"].tolist() for batch in source.batches(source.plan(epoch))]
        assert got == [batch.tolist() for batch in source.plan(epoch)]
        assert sorted(sum(got, [])) == split.tolist()


def test_epochs_differ_and_validation_does_not(table: EventTable) -> None:
    names = ["event/id", "hit/x"]
    train = ReaderSource(table, names, 8, seed=1)
    assert not same(train.plan(0), train.plan(1))
    assert same(train.plan(1), ReaderSource(table, names, 8, seed=1).plan(1))
    val = ReaderSource(table, names, 8, shuffle=False)
    assert same(val.plan(0), val.plan(1))
    longest = [int(table.lengths("hit")[batch].max()) for batch in val.plan(0)]
    assert longest == sorted(longest, reverse=True)


def test_an_epoch_can_be_entered_at_any_batch(table: EventTable) -> None:
    source = ReaderSource(table, ["event/id"], 5)
    plan = source.plan(3)
    whole = [batch["event/id"].tolist() for batch in source.batches(plan)]
    for start in range(len(plan) + 1):
        assert [batch["event/id"].tolist() for batch in source.batches(plan, start)] == whole[start:]


def test_an_empty_split_has_no_batches(table: EventTable) -> None:
    source = ReaderSource(table, ["event/id", "hit/x"], 5, positions=np.empty(0, np.int64))
    assert source.n_events == 0
    assert list(source.batches(source.plan(0))) == []


def same(one: object, other: object) -> bool:
    return [batch.tolist() for batch in one] == [batch.tolist() for batch in other]  # type: ignore[attr-defined]
