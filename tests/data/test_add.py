"""Targets from a table: by id, beside what is written, and kept by later builds."""

from pathlib import Path

import numpy as np
import pandas
import pytest
from test_build import recipe

from frz.data import add as module
from frz.data.add import add
from frz.data.build import build
from frz.errors import ConfigError, FrzError, SourceError
from frz.store import EventStore, snapshot
from frz.store.diff import diff

IDS = [3, 1, 2, 7, 8]


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    build(recipe([[3, 1, 2], [7, 8]]), tmp_path)
    return tmp_path


def write(folder: Path, name: str = "labels.parquet", **columns: object) -> Path:
    table = pandas.DataFrame(columns)
    path = folder / name
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path)
    return path


def store_of(artifacts: Path, version: int | None = None) -> EventStore:
    return EventStore(artifacts / "datasets/listed", version)


def parts_of(artifacts: Path) -> set[str]:
    return {path.name for path in (artifacts / "datasets/listed/events.zarr").iterdir() if path.is_dir()}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_columns_join_by_id_and_what_is_missing_is_counted(artifacts, suffix):
    before = parts_of(artifacts)
    table = write(
        artifacts,
        f"labels.{suffix}",
        id=[8, 99, 1, 3, 2],
        energy=[0.8, 9.9, 0.1, None, 0.2],
        site=pandas.array([80, 990, None, 30, 20], "Int64"),
        good=[True, True, False, True, False],
    )
    result = add("listed", table, artifacts)
    assert (result["version"], result["new"], result["rows_without_event"]) == (2, True, 1)
    assert result["added"] == {
        "event/energy": {"dtype": "float32", "without_value": 2},
        "event/site": {"dtype": "int64", "without_value": 2},
        "event/good": {"dtype": "int8", "without_value": 1},
    }
    store = store_of(artifacts)
    np.testing.assert_array_equal(store.array("event/energy"), np.array([np.nan, 0.1, 0.2, np.nan, 0.8], np.float32))
    assert store.array("event/site").tolist() == [30, -1, 20, -1, 80]
    assert store.array("event/good").tolist() == [1, 0, 0, -1, 1]
    assert {store.schema.arrays[name].role for name in result["added"]} == {"target"}
    assert parts_of(artifacts) > before
    assert len(parts_of(artifacts) - before) == 3

    found = diff(store_of(artifacts, 1), store)
    assert found.schema["added"][:3] == ["event/energy", "event/good", "event/site"]
    assert (len(found.changed), len(found.amended), found.arrays) == (0, 0, {})


def test_every_way_of_reading_sees_the_column(artifacts):
    add("listed", write(artifacts, id=IDS, y=[float(i) for i in IDS]), artifacts)
    store = store_of(artifacts)
    got = store.events([4, 0, 2])
    assert got["event/y"].tolist() == [8, 3, 2]
    np.testing.assert_array_equal(got["hit/raw"][:, 0], [8, 8, 3, 3, 2, 2])
    assert store.range(2, 4, ["event/y"])["event/y"].tolist() == [2, 7]
    assert [part["event/y"].tolist() for part in store.parts()] == [[3, 1, 2], [7, 8]]


def test_a_later_build_fills_the_column_in_for_new_events_alone(artifacts):
    add("listed", write(artifacts, id=[*IDS, 50], y=[*IDS, 50]), artifacts)
    before = parts_of(artifacts)
    same = build(recipe([[3, 1, 2], [7, 8]]), artifacts)
    assert (same["version"], same["new"]) == (2, False)
    assert same["added"] == {"event/y": {"new_events": 0, "without_value": 0}}
    grown = build(recipe([[3, 1, 2], [7, 8], [50, 51]]), artifacts)
    assert grown["added"] == {"event/y": {"new_events": 2, "without_value": 1}}
    assert store_of(artifacts).array("event/y").tolist() == [3, 1, 2, 7, 8, 50, -1]
    assert len(parts_of(artifacts) - before) == 2  # the new events, and their y
    reordered = build(recipe([[7, 8], [3, 1, 2], [50, 51]]), artifacts)
    assert reordered["added"]["event/y"]["new_events"] == 0
    assert store_of(artifacts).array("event/y").tolist() == [7, 8, 3, 1, 2, 50, -1]


def test_an_event_that_leaves_and_comes_back_has_its_value_again(artifacts):
    add("listed", write(artifacts, id=IDS, y=IDS), artifacts)
    build(recipe([[3, 1, 2]]), artifacts)
    build(recipe([[3, 1, 2], [8]]), artifacts)
    assert store_of(artifacts).array("event/y").tolist() == [3, 1, 2, 8]


def test_the_same_table_again_changes_nothing_and_another_needs_replace(artifacts):
    add("listed", write(artifacts, id=IDS, x=IDS, y=IDS), artifacts)
    again = add("listed", artifacts / "labels.parquet", artifacts)
    assert (again["version"], again["new"]) == (2, False)
    other = write(artifacts, id=IDS, y=[-5, *IDS[1:]])
    with pytest.raises(ConfigError, match="listed@2: event/y exists; replace it with --replace"):
        add("listed", other, artifacts)
    assert add("listed", other, artifacts, replace=True)["version"] == 3
    assert store_of(artifacts).array("event/y").tolist() == [-5, 1, 2, 7, 8]
    assert store_of(artifacts).array("event/x").tolist() == IDS
    assert store_of(artifacts, 2).array("event/y").tolist() == IDS
    assert diff(store_of(artifacts, 2), store_of(artifacts)).amended.tolist() == [3]


def test_an_array_that_the_source_brings_takes_the_place_of_the_column(artifacts):
    add("listed", write(artifacts, id=IDS, y=IDS), artifacts)
    store = store_of(artifacts)
    made, report = module.carry_over(store.root, store.snapshot, store.snapshot)
    assert report == {}
    assert made is store.snapshot


def test_many_events_lie_in_several_parts(artifacts, monkeypatch):
    monkeypatch.setattr(module, "PART_EVENTS", 3)
    before = parts_of(artifacts)
    add("listed", write(artifacts, id=IDS, y=IDS), artifacts)
    assert len(parts_of(artifacts) - before) == 2
    assert store_of(artifacts).array("event/y").tolist() == IDS


def test_a_version_that_another_process_makes_meanwhile_is_extended(artifacts, monkeypatch):
    table = write(artifacts, id=IDS, y=IDS)
    commit = snapshot.commit

    def overtaken(root, make):
        monkeypatch.setattr(snapshot, "commit", commit)
        build(recipe([[3, 1, 2], [7, 8], [9]]), artifacts)
        return commit(root, make)

    monkeypatch.setattr(snapshot, "commit", overtaken)
    assert add("listed", table, artifacts)["version"] == 3
    assert store_of(artifacts).array("event/y").tolist() == [*IDS, -1]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"id": [1, 2, 1], "y": [1, 2, 3]}, {}, "id 1 stands in rows 1 and 3; keep one row per event"),
        ({"id": [91, 92], "y": [1, 2]}, {}, "none of its 2 ids in column 'id' is in listed; give .*ids: 3, 1, 2..."),
        ({"no": [1], "y": [1]}, {}, "has no column 'id'; .*have: no, y"),
        ({"id": [1], "y": [1]}, {"columns": ["z"]}, "has no column 'z'"),
        ({"id": [1]}, {}, "has no values to add"),
        ({"id": [1], "y": ["a"]}, {}, "column 'y' is neither numbers nor booleans; code it"),
        ({"id": [1.5], "y": [1]}, {}, "column 'id' does not hold a whole number in every row"),
        ({"id": [2, 1], "y": [0, np.inf]}, {}, "column 'y' of id 1 is inf, beyond float32"),
        ({"id": [1], "y": [1e39]}, {}, "column 'y' of id 1 is 1e\\+39, beyond float32"),
        ({"id": [1], "a/b": [1]}, {}, "column 'a/b' cannot name an array"),
        ({"id": [1], "group": [1]}, {"replace": True}, "event/group exists: it comes from the source; rename"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_changes_nothing(artifacts, columns, options, message):
    with pytest.raises(FrzError, match=message) as caught:
        add("listed", write(artifacts, **columns), artifacts, **options)
    assert "\n" not in str(caught.value)
    assert store_of(artifacts).snapshot.version == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.csv", "no such file"), ("table.xlsx", "is no table"), ("bad.parquet", "cannot be read")],
)
def test_a_file_that_is_no_table_is_refused(artifacts, name, message):
    (artifacts / "bad.parquet").write_bytes(b"PAR1 but no more")
    (artifacts / "table.xlsx").write_bytes(b"")
    with pytest.raises(SourceError, match=f"{name}: {message}"):
        add("listed", artifacts / name, artifacts)


def test_only_the_newest_version_is_extended(artifacts):
    table = write(artifacts, id=IDS, y=IDS)
    add("listed", table, artifacts)
    with pytest.raises(ConfigError, match="listed@1 is not the newest version; add to @2"):
        add("listed@1", table, artifacts)
