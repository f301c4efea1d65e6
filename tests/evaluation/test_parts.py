"""Parts of events by a column of the features, or of the data set in whatever order that has."""

import made_up_labels
import numpy as np
import pytest

from frz import artifacts as names
from frz.errors import ConfigError
from frz.evaluation.parts import parts_of
from frz.store import EventStore, snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.part import write_part
from frz.store.schema import Array, Schema
from frz.store.snapshot import Snapshot
from frz.store.split import Split


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """Features, and their data set with one more array and the events in another order."""
    root, events = tmp_path_factory.mktemp("artifacts"), made_up_labels.stays()
    order = np.random.default_rng(0).permutation(len(events["event/id"]))
    schema = Schema(
        arrays={name: made_up_labels.SCHEMA.arrays[name] for name in ("event/id", "event/group")}
        | {"event/triage": Array(dtype="int8", role="input")}
    )
    arrays = {name: events[name][order] for name in ("event/id", "event/group")}
    arrays["event/triage"] = (arrays["event/id"] % 3).astype(np.int8)
    data = names.store_path(root, "datasets", "stays")
    snapshot.prepare_root(data)
    parts = Catalogue.of([entry({"events": write_part(data, "events", "0" * 64, schema, arrays)})])
    made = Snapshot(name="stays", event_schema=schema, split=Split(), parts=parts, about={})
    snapshot.commit(data, lambda latest: made)
    return made_up_labels.write(root, events, data=EventStore(data).snapshot.hash)


def parts(artifacts, name, positions):
    return parts_of(name, EventStore(*names.features("stays", artifacts)), np.asarray(positions), artifacts)


def test_a_column_of_the_features(artifacts):
    unit = made_up_labels.stays()["event/static"][:, 1]
    positions = [50, 3, 1, 100, 7]
    found = parts(artifacts, "event/static.unit", positions)
    assert list(found) == [*(f"{value:g}" for value in np.unique(unit[[3, 1, 7]])), "unknown"]
    np.testing.assert_array_equal(found["unknown"], np.isnan(unit[positions]))
    for name, inside in found.items():
        if name != "unknown":
            np.testing.assert_array_equal(inside, unit[positions] == float(name))


def test_an_array_of_the_data_set_alone_is_found_event_by_event(artifacts):
    positions = [50, 3, 1, 100, 7]
    found = parts(artifacts, "event/triage", positions)
    for value in (0, 1, 2):
        np.testing.assert_array_equal(found[str(value)], (np.array(positions) + 1000) % 3 == value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("event/static.unti", "event/static has no column 'unti'; did you mean 'unit'"),
        ("event/static", "event/static has columns: name one"),
        ("event/pooled", "event/pooled has no named columns"),
        ("event/kind.unit", "event/kind has no named columns"),
        ("event/static.age", r"\d+ different values; name a column of at most 20 values"),
        ("set/minute", "not an array of events"),
        ("event/triag", "neither features nor data set hold event/triag; did you mean 'event/triage'"),
    ],
)
def test_a_column_that_tells_no_parts_is_refused(artifacts, name, message):
    with pytest.raises(ConfigError, match=message):
        parts(artifacts, name, np.arange(200))


def test_a_data_set_that_is_another_one_is_not_read(artifacts, tmp_path):
    made_up_labels.write(tmp_path, data="1" * 64)
    (tmp_path / "datasets").symlink_to(artifacts / "datasets")
    with pytest.raises(ConfigError, match="the features hold no event/triage, and their data set stays@1 is not here"):
        parts(tmp_path, "event/triage", [0])
