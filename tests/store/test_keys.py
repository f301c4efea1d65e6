"""The event key follows the inputs and nothing else."""

import numpy as np
import pytest
from events_of_every_shape import SCHEMAS, random_events

from frz.store import ragged
from frz.store.keys import content_digest, event_keys, natural_id


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_key_of_an_event_does_not_depend_on_its_neighbours(kind):
    schema = SCHEMAS[kind]
    arrays = random_events(schema, 12, 5)
    keys = event_keys(arrays, schema)
    assert keys.shape == (12, 16)
    assert len({bytes(key) for key in keys}) == 12
    chosen = np.array([7, 2, 11])
    np.testing.assert_array_equal(event_keys(ragged.take(arrays, schema, chosen), schema), keys[chosen])


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_every_input_changes_the_key_and_nothing_else_does(kind):
    schema = SCHEMAS[kind]
    arrays = random_events(schema, 6, 2)
    keys = event_keys(arrays, schema)
    for name, spec in schema.arrays.items():
        if len(arrays[name]) == 0:
            continue
        changed = {**arrays, name: arrays[name].copy()}
        flat = changed[name].reshape(-1)
        flat[-1] = not flat[-1] if flat.dtype.kind == "b" else flat[-1] + 1
        differs = (event_keys(changed, schema) != keys).any(axis=1)
        assert differs.sum() == (1 if spec.role == "input" or name == "event/id" else 0), name


def test_members_moved_between_parents_change_the_key():
    schema = SCHEMAS["clinical"]
    arrays = random_events(schema, 1, 0)
    arrays["set/offsets"], arrays["set/time"] = np.array([0, 2]), np.zeros(2, np.float32)
    arrays["element/value"], arrays["element/code"] = np.zeros(3), np.zeros(3, np.uint8)
    keys = [
        event_keys({**arrays, "element/offsets": np.array(offsets)}, schema).tobytes()
        for offsets in ([0, 1, 3], [0, 2, 3], [0, 3, 3])
    ]
    assert len(set(keys)) == 3


def test_content_digest_sees_names_dtypes_shapes_and_values():
    base = {"hit/x": np.zeros((2, 3), np.float32)}
    others = [
        {"hit/y": base["hit/x"]},
        {"hit/x": np.zeros((2, 3), np.int32)},
        {"hit/x": np.zeros((3, 2), np.float32)},
        {"hit/x": np.ones((2, 3), np.float32)},
    ]
    assert len({content_digest(arrays) for arrays in [base, *others]}) == 5
    assert content_digest(base) == content_digest({"hit/x": np.zeros((2, 3), ">f4").astype("<f4")})


def test_natural_id_is_stable_and_64_bit():
    assert natural_id("run", 7) == natural_id("run", 7)
    assert natural_id("run", 7) != natural_id("run7")
    assert all(-(2**63) <= natural_id(i) < 2**63 for i in range(50))
