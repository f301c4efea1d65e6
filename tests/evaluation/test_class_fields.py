"""Fields of classes are found by the probabilities beside them, and members without a known class are counted."""

import numpy as np
import pytest

from frz.evaluation.classes import class_fields
from frz.store.schema import Array, Axis, Schema

SCHEMA = Schema(
    axes={"slot": Axis()},
    arrays={
        "event/id": Array(dtype="int64"),
        "slot/target": Array(dtype="float32", shape=(2,), columns=("q", "kind")),
        "slot/counts": Array(dtype="bool"),
        "event/target": Array(dtype="float32", shape=(1,), columns=("label",)),
        "event/counts": Array(dtype="bool"),
    },
)
PREPARED = {
    "event/id": np.arange(4),
    "slot/offsets": np.array([0, 2, 2, 3, 5]),
    "slot/target": np.array([[-1, 3], [1, 5], [0, 0], [1, 9], [-1, 3]], np.float32),
    "slot/counts": np.array([True, True, False, True, True]),
    "event/target": np.array([[0], [1], [0], [-1]], np.float32),
    "event/counts": np.array([True, True, True, False]),
}


def event_field(probability, likelier, truth=(0, 1, 0, -1), yardstick=None):
    made = {"event/label": np.array(likelier, np.float32), "event/label_probability": np.array(probability)}
    prepared = PREPARED | {"event/target": np.array(truth, np.float32)[:, None]}
    (field,) = class_fields(made, yardstick or {}, prepared, SCHEMA)
    return field


def test_two_classes_of_events():
    yardstick = {"event/label": np.zeros(4), "event/label_probability": np.full(4, 0.2)}
    field = event_field([0.1, 0.8, 0.6, 0.9], [0, 1, 1, 1], yardstick=yardstick)
    assert (field.axis, field.name, field.left_out, field.dropped) == ("event", "label", 1, 0)
    np.testing.assert_array_equal(field.values, [0, 1])
    np.testing.assert_allclose(field.probability, [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    np.testing.assert_array_equal(field.true, [0, 1, 0])
    np.testing.assert_array_equal(field.event, [0, 1, 2])
    np.testing.assert_allclose(field.yardstick, [[0.8, 0.2]] * 3)
    assert field.counts == {"0": 2, "1": 1}


def test_slots_know_their_event():
    made = {"slot/q": np.array([-1, 1, 1, 1, 1.0]), "slot/q_probability": np.array([0.2, 0.9, 0.9, np.nan, 0.6])}
    (field,) = class_fields(made, {}, PREPARED, SCHEMA)
    np.testing.assert_array_equal(field.event, [0, 0, 3])
    np.testing.assert_array_equal(field.true, [0, 1, 0])
    assert (field.left_out, field.dropped, field.yardstick) == (1, 1, None)


def test_more_classes_are_told_by_their_values():
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2]])
    made = {"slot/kind": np.array([3, 5, 9, 9, 3.0])}
    made |= {f"slot/kind_probability_{value}": p[:, k] for k, value in enumerate((3, 5, 9))}
    (field,) = class_fields(made, {}, PREPARED, SCHEMA)
    np.testing.assert_array_equal(field.values, [3, 5, 9])
    np.testing.assert_array_equal(field.true, [0, 1, 2, 0])
    np.testing.assert_allclose(field.probability, p[[0, 1, 3, 4]])


@pytest.mark.parametrize(
    ("truth", "probability", "likelier", "true"),
    [
        # The split shows one class; what the head says tells the other.
        ((0, 0, 0, -1), [0.1, 0.8, 0.2, 0.1], [0, 1, 0, 0], [0, 0, 0]),
        ((1, 1, 1, -1), [0.1, 0.8, 0.2, 0.1], [0, 1, 0, 0], [1, 1, 1]),
        # The head says one class alone.
        ((0, 0, 0, -1), [0.1, 0.2, 0.2, 0.1], [0, 0, 0, 0], [0, 0, 0]),
        ((1, 1, 1, -1), [0.1, 0.2, 0.2, 0.1], [0, 0, 0, 0], [1, 1, 1]),
        ((1, 1, 1, -1), [0.9, 0.7, 0.9, 0.9], [1, 1, 1, 1], [1, 1, 1]),
        ((0, 1, 0, -1), [0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0], [0, 1, 0]),
    ],
)
def test_which_class_is_the_upper_one_is_known_without_both(truth, probability, likelier, true):
    np.testing.assert_array_equal(event_field(probability, likelier, truth).true, true)


def test_numbers_are_no_classes_and_what_has_no_truth_is_left_out():
    made = {"event/label": np.zeros(4), "event/other": np.zeros(4), "event/other_probability": np.zeros(4)}
    assert class_fields(made, {}, PREPARED, SCHEMA) == []
