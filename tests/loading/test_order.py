"""The entropy of batches, against closed forms, and what it says of an order."""

import numpy as np
import pytest
from ragged_events import SCHEMA, events

from frz.loading.order import ENOUGH, OrderConfig, batch_entropy, labels_of, shuffle_quality
from frz.store.schema import Array, Schema
from frz.store.table import EventTable


def test_entropy_of_known_batches() -> None:
    labels = np.array(["a", "a", "b", "b", "c"])
    pure, even, mixed = np.array([0, 1]), np.array([0, 2]), np.array([0, 1, 2, 4])
    assert batch_entropy(labels, [pure]) == 0
    np.testing.assert_allclose(batch_entropy(labels, [even]), np.log(2))
    quarter = -(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25))
    np.testing.assert_allclose(batch_entropy(labels, [pure, even, mixed]), (np.log(2) + quarter) / 3)


def test_an_order_that_shuffles_all_events_is_a_full_shuffle() -> None:
    labels = {"file": np.repeat(np.arange(4), 25)}
    found = shuffle_quality(labels, OrderConfig(block=10, shuffle_blocks=10), 10, 0)
    assert found.shares == {"file": 1.0}
    assert found.better is None
    assert str(found) == "shuffle: batch entropy 1.00 by file (a full shuffle: 1)"


def test_batches_of_one_file_are_found_and_mended() -> None:
    labels = {"file": np.repeat(np.arange(10), 400), "class": np.arange(4000) % 2}
    order = OrderConfig(block=400, shuffle_blocks=1)
    found = shuffle_quality(labels, order, 50, 0)
    assert found.shares["file"] == 0
    assert found.shares["class"] == pytest.approx(1, abs=0.02)
    assert found.better is not None
    assert order.window - found.better.block < found.better.window <= order.window
    reached = shuffle_quality(labels, found.better, 50, 0)
    assert reached.better is None
    assert min(reached.shares.values()) >= ENOUGH
    assert f"loading.block={found.better.block}" in str(found)


def test_labels_are_places_groups_and_classes() -> None:
    schema = SCHEMA.model_copy(
        update={
            "arrays": SCHEMA.arrays
            | {
                "event/class": Array(dtype="int64", role="target"),
                "event/energy": Array(dtype="float32", role="target"),
            }
        }
    )
    arrays = events(300) | {
        "event/class": np.arange(300) % 3,
        "event/energy": np.linspace(0, 1, 300, dtype=np.float32),
    }
    table, positions = EventTable(schema, arrays), np.arange(10, 300)
    found = labels_of(table, positions)
    assert found.keys() == {"place in the data set", "event/group", "event/class"}
    assert found["event/class"].tolist() == (positions % 3).tolist()
    assert found["place in the data set"].tolist() == (positions * 64 // 300).tolist()


def test_groups_of_one_event_are_no_labels() -> None:
    arrays = events(50) | {"event/group": np.arange(50)}
    assert "event/group" not in labels_of(EventTable(SCHEMA, arrays), np.arange(50))


def test_no_events_are_no_trouble() -> None:
    none = EventTable(Schema(arrays={"event/id": Array(dtype="int64")}), {"event/id": np.zeros(0, np.int64)})
    labels = labels_of(none, np.zeros(0, np.int64))
    assert shuffle_quality(labels, OrderConfig(), 10, 0).better is None
