"""One plan, the same batches wherever events lie, from any batch on."""

import threading

import numpy as np
import pytest
import torch
from ragged_events import SCHEMA, events

from frz.loading.batch import to_batch
from frz.loading.blocks import BlockSource, PreparedEvents, windows
from frz.loading.order import OrderConfig
from frz.store import EventStore, Split, snapshot, write_part
from frz.store.catalogue import Catalogue, entry
from frz.store.ragged import slice_events
from frz.store.snapshot import Snapshot

N, PART, BATCH = 90, 20, 7
ORDER = OrderConfig(block=4, shuffle_blocks=5)
SPLIT = np.flatnonzero(np.arange(N) % 9 < 7)
CPU = torch.device("cpu")
MODES = ["device", "ram", "mapped"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    root, whole = tmp_path_factory.mktemp("store"), events(N)
    snapshot.prepare_root(root)
    parts = Catalogue.of(
        entry(
            {
                "events": write_part(
                    root, "events", 2 * f"{i:032x}", SCHEMA, slice_events(whole, SCHEMA, i, min(N, i + PART))
                )
            }
        )
        for i in range(0, N, PART)
    )
    snapshot.commit(root, lambda _: Snapshot(name="s", event_schema=SCHEMA, split=Split(), parts=parts))
    return EventStore(root)


def source(store: EventStore, mode: str, **options: object) -> BlockSource:
    held = PreparedEvents(store, SCHEMA.arrays, mode, CPU, ORDER.window)
    return BlockSource(held, BATCH, SPLIT, **{"order": ORDER, "seed": 3, **options})


@pytest.fixture(params=[1, 3, 16], autouse=True)
def _together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that are gathered together: alone, a few, more than there are."""
    monkeypatch.setattr("frz.loading.blocks.TOGETHER", request.param)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> object:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "frz-ahead"] == []


@pytest.mark.parametrize("mode", MODES)
def test_an_epoch_is_the_planned_events(store: EventStore, mode: str) -> None:
    made = source(store, mode)
    for epoch in range(2):
        plan = made.plan(epoch)
        got = [batch["event/id"].tolist() for batch in made.batches(plan)]
        assert got == [(positions + 100).tolist() for positions in plan]
        assert sorted(sum(got, [])) == (SPLIT + 100).tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("start", range(0, 11, 2))
def test_every_mode_gives_the_events_of_the_store_from_any_batch_on(store: EventStore, mode: str, start: int) -> None:
    made = source(store, mode)
    plan = made.plan(1)
    found = list(made.batches(plan, start))
    assert len(found) == len(plan) - start
    for ours, positions in zip(found, plan[start:], strict=True):
        theirs = to_batch(store.events(positions, SCHEMA.arrays), SCHEMA)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_validation_in_the_middle_of_an_epoch_disturbs_nothing(store: EventStore) -> None:
    held = PreparedEvents(store, SCHEMA.arrays, "mapped", CPU, ORDER.window)
    train = BlockSource(held, BATCH, SPLIT, order=ORDER, seed=3)
    val = BlockSource(held, BATCH, np.setdiff1d(np.arange(N), SPLIT))
    got, plan = [], train.plan(0)
    for batch in train.batches(plan):
        got.append(batch["event/id"].tolist())
        seen = [batch["event/id"].tolist() for batch in val.batches(val.plan(0))]
        assert sum(seen, []) == (np.setdiff1d(np.arange(N), SPLIT) + 100).tolist()
    assert got == [(positions + 100).tolist() for positions in plan]


@pytest.mark.parametrize("mode", MODES)
def test_an_epoch_may_be_broken_off(store: EventStore, mode: str) -> None:
    made = source(store, mode)
    plan = made.plan(0)
    batches = made.batches(plan)
    next(batches)
    batches.close()
    assert len(list(made.batches(plan))) == len(plan)


def test_windows_hold_all_that_their_batches_need() -> None:
    plan = a_plan()
    for start in (0, 3, len(plan) - 1):
        found = list(windows(plan, start, ORDER.window))
        assert [batch.tolist() for window in found for batch in window.batches] == [b.tolist() for b in plan[start:]]
        for window in found:
            assert (np.diff(window.positions) > 0).all()
            assert [window.positions[rows].tolist() for rows in window.rows] == [b.tolist() for b in window.batches]
    assert list(windows([], 0, 5)) == []


def test_windows_are_cut_at_the_same_places_from_any_batch_on() -> None:
    plan = a_plan()
    ends = [np.concatenate(window.batches)[-1] for window in windows(plan, 0, ORDER.window)]
    for start in range(len(plan)):
        later = [np.concatenate(window.batches)[-1] for window in windows(plan, start, ORDER.window)]
        assert later == ends[-len(later) :]


def test_a_window_is_about_its_size() -> None:
    """Blocks that are shuffled together are read once; a batch that two windows share adds a few."""
    plan = a_plan()
    assert [len(window.batches) % 3 for window in windows(plan, 0, ORDER.window, 3)][:-1] == [0] * 3
    read = [len(window.positions) for window in windows(plan, 0, ORDER.window)]
    assert len(read) == -(-len(SPLIT) // ORDER.window)
    assert max(read) <= 9 / 7 * (ORDER.window + BATCH * ORDER.block)


def a_plan() -> list[np.ndarray]:
    return [SPLIT[batch] for batch in ORDER.plan(len(SPLIT), BATCH, 3, 0)]


def test_drawn_events_make_the_epoch(store: EventStore) -> None:
    """Repeats among them, and other ones in every epoch."""
    drawn = {epoch: np.sort(np.random.default_rng(epoch).integers(0, len(SPLIT), len(SPLIT))) for epoch in range(2)}
    for mode in MODES:
        made = source(store, mode, draw=drawn.__getitem__)
        for epoch, places in drawn.items():
            got = [batch["event/id"].tolist() for batch in made.batches(made.plan(epoch))]
            assert sorted(sum(got, [])) == (SPLIT[places] + 100).tolist()


def test_without_an_order_events_come_as_they_lie(store: EventStore) -> None:
    made = source(store, "mapped", order=None)
    got = [batch["event/id"].tolist() for batch in made.batches(made.plan(0))]
    assert sum(got, []) == (SPLIT + 100).tolist()


@pytest.mark.parametrize("mode", MODES)
def test_no_events_make_no_batches(store: EventStore, mode: str) -> None:
    held = PreparedEvents(store, SCHEMA.arrays, mode, CPU, ORDER.window)
    made = BlockSource(held, BATCH, SPLIT[:0], order=ORDER)
    assert list(made.batches(made.plan(0))) == []
