"""Stays are two ragged levels deep, sets and their elements: versions, differences, added columns, repair."""

import shutil

import numpy as np
import pandas
import pytest
from made_up_stays import admission, recipe, stays, text, write_both, write_set

from frz import seen
from frz.data.add import add
from frz.data.build import build
from frz.data.restore import repair
from frz.store import EventStore
from frz.store.diff import diff
from frz.store.schema import ID
from frz.store.verify import verify


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    return write_both(tmp_path / "files")


def store_of(artifacts, version=None):
    return EventStore(artifacts / "datasets/icu", version)


def differences(artifacts):
    return diff(store_of(artifacts, 1), store_of(artifacts, 2)).summary(10)


def contents(store):
    return store.range(0, store.n_events)


def test_another_outcome_makes_a_version_that_keeps_keys_and_the_parts_of_the_other_set(folder, tmp_path):
    build(recipe(folder), tmp_path)
    path = folder / "Outcomes-b.txt"
    path.write_text(path.read_text().replace("2000,10,5,8,-1,0", "2000,10,5,8,3,1"))
    made = build(recipe(folder), tmp_path)
    assert (made["version"], made["units_read"], made["units_skipped"]) == (2, 1, 1)
    assert (made["parts_written"], made["parts_found"]) == (1, 0)
    found = differences(tmp_path)
    assert found["events"] == found["events"] | {"a": 9, "b": 9, "amended": 1}
    assert not any(found["events"][kind] for kind in ("added", "removed", "changed", "reordered"))
    assert found["ids"] == {"amended": [2000]}
    assert found["arrays"] == {"event/label": 1, "event/survival": 1}
    one, two = store_of(tmp_path, 1), store_of(tmp_path, 2)
    np.testing.assert_array_equal(one.array("event/key"), two.array("event/key"))


def test_another_measurement_changes_its_stay_alone(folder, tmp_path):
    build(recipe(folder), tmp_path)
    files = stays(2000, 3, seed=1)
    files[2001] = files[2001].rstrip("\n") + "\n48:00,Lactate,2.5\n"
    write_set(folder, "b", files, deaths=(2002,))
    build(recipe(folder), tmp_path)
    found = differences(tmp_path)
    assert found["events"]["changed"] == 1
    assert found["ids"]["changed"] == [2001]


def test_a_stay_that_moves_to_the_other_set_moves_to_the_other_split(folder, tmp_path):
    build(recipe(folder), tmp_path)
    b = stays(2000, 3, seed=1)
    write_set(folder, "a", stays(1000) | {1005: text(admission(1005)), 2001: b.pop(2001)}, deaths=(1001,))
    write_set(folder, "b", b, deaths=(2002,))
    build(recipe(folder), tmp_path)
    found = differences(tmp_path)
    moved = {name: n for name, n in found["events"].items() if name.startswith("test")}
    assert list(moved.values()) == [1]
    assert [found["ids"][name] for name in moved] == [[2001]]
    store = store_of(tmp_path)
    assert store.array(ID)[store.split("test")].tolist() == [2000, 2002]


def test_columns_join_stays_with_and_without_sets(folder, tmp_path):
    build(recipe(folder), tmp_path)
    before = contents(store_of(tmp_path))
    table = tmp_path / "more.csv"
    pandas.DataFrame({"stay": [1005, 2000, 1000, 7], "readmitted": [1, 0, 1, 1]}).to_csv(table, index=False)
    result = add("icu", table, tmp_path, on="stay")
    assert (result["version"], result["rows_without_event"]) == (2, 1)
    store = store_of(tmp_path)
    assert store.array("event/readmitted").tolist() == [1, -1, -1, -1, -1, 1, 0, -1, -1]
    after = contents(store)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


def test_a_build_that_skips_all_units_still_tells_what_was_counted(folder, tmp_path):
    first = build(recipe(folder), tmp_path)
    again = build(recipe(folder), tmp_path)
    assert again["units_skipped"] == 2
    assert again["counted"] == first["counted"] == store_of(tmp_path).snapshot.about["counted"]
    assert first["counted"]["stays"] == 9


def test_a_recipe_that_says_part_of_a_split_keeps_the_rest_as_published(folder, tmp_path):
    made = build(recipe(folder, split={"seed": 3}), tmp_path)
    assert made["splits"]["test"] == 3
    split = store_of(tmp_path).snapshot.split
    assert (split.seed, split.published) == (3, {"set-b": "test"})
    dealt = build(recipe(folder, split={"published": {}, "fractions": {"train": 0.5, "test": 0.5}}), tmp_path)
    assert set(dealt["splits"]) == {"train", "test"}


def test_stays_of_the_test_set_that_were_trained_on_are_told(folder, tmp_path):
    build(recipe(folder, split={"published": {}, "fractions": {"train": 0.5, "test": 0.5}}), tmp_path)
    build(recipe(folder), tmp_path)
    dealt, published = store_of(tmp_path, 1), store_of(tmp_path, 2)
    trained = {"name": "icu", "version": 1, "hash": dealt.snapshot.hash, "backbone": "b"}
    held = published.array(ID)[published.split("test")]
    n_seen = int(np.isin(held, dealt.array(ID)[dealt.split("train")]).sum())
    assert 0 < n_seen < 3
    assert f"was trained on {n_seen} of the 3 test events" in seen.warning(published, tmp_path, trained, "test")
    trained |= {"version": 2, "hash": "of another version", "split": published.snapshot.split.model_dump(mode="json")}
    assert seen.warning(published, tmp_path, trained, "test") == ""


@pytest.mark.parametrize("lost", ["array", "part"])
def test_what_is_lost_is_found_and_read_again_from_the_archives(folder, tmp_path, lost):
    build(recipe(folder), tmp_path)
    root = tmp_path / "datasets/icu"
    before = contents(EventStore(root))
    part = sorted((root / "events.zarr").glob("events-*"))[0]
    shutil.rmtree(part / "element" if lost == "array" and (part / "element").is_dir() else part)
    report = verify(root)
    assert report.damages
    outcomes, _ = repair(root, report)
    assert outcomes
    assert not verify(root).damages
    after = contents(EventStore(root))
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
