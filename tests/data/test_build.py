"""From recipes to versions: incremental, exclusive, and clear about what is wrong with the input."""

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from conftest import tiny_recipe
from frz.artifacts import versions
from frz.config import StrictModel
from frz.data.build import build
from frz.data.source import Source, Unit
from frz.errors import ConfigError, SourceError, StoreError
from frz.store import Array, Axis, EventStore, Schema, snapshot
from frz.store.journal import Journal
from frz.store.keys import event_keys
from frz.store.schema import EventArrays


class Listed(Source):
    """Events from lists in the recipe: one unit per list of ids."""

    class Config(StrictModel):
        units: list[list[int]]
        bad: int = -1
        """Id of an event with a NaN."""

    version = "1"
    licence = "none"

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def schema(self) -> Schema:
        ids = {name: Array(dtype="int64", role="meta") for name in ("event/id", "event/group")}
        hits = {"hit/raw": Array(dtype="float32", shape=(2,), columns=("x", "charge"))}
        return Schema(axes={"hit": Axis()}, arrays=ids | hits)

    def units(self) -> list[Unit]:
        return [Unit(name=f"list {i}", digest=repr((ids, self.config.bad))) for i, ids in enumerate(self.config.units)]

    def read(self, unit: Unit) -> Iterator[EventArrays]:
        reads.append(unit.name)
        ids = np.array(self.config.units[int(unit.name.split()[1])], np.int64)
        raw = np.repeat(ids, 2)[:, None] * np.ones(2, np.float32)
        raw[np.repeat(ids, 2) == self.config.bad, 1] = np.nan
        yield {
            "event/id": ids,
            "event/group": ids,
            "hit/offsets": 2 * np.arange(len(ids) + 1, dtype=np.int64),
            "hit/raw": raw.astype(np.float32),
        }


reads: list[str] = []
COUNTS = ("units_read", "units_skipped", "parts_written", "parts_found")


def recipe(units: list[list[int]], **more: Any) -> dict[str, Any]:
    reads.clear()
    return {"name": "listed", "source": {"kind": f"{__name__}:Listed", "units": units, **more}}


def test_every_event_arrives_with_its_key(tmp_path):
    result = build(recipe([[3, 1], [2]]), tmp_path)
    assert (result["version"], result["events"], result["units_read"]) == (1, 3, 2)
    store = EventStore(tmp_path / "datasets/listed")
    np.testing.assert_array_equal(store.array("event/id"), [3, 1, 2])
    np.testing.assert_array_equal(store.array("event/key"), event_keys(store.range(0, 3), store.schema))
    assert sum(result["splits"].values()) == 3


def test_unchanged_units_are_not_read_and_unchanged_sources_make_no_version(tmp_path):
    build(recipe([[1, 2], [3]]), tmp_path)
    same = build(recipe([[1, 2], [3]]), tmp_path)
    assert reads == []
    assert (same["version"], same["new"]) == (1, False)
    grown = build(recipe([[1, 2], [3], [4]]), tmp_path)
    assert reads == ["list 2"]
    assert (grown["version"], grown["events"], grown["units_skipped"]) == (2, 4, 2)
    one, two = (snapshot.read(tmp_path / "datasets/listed", n) for n in (1, 2))
    assert two.parts[:2] == one.parts
    assert EventStore(tmp_path / "datasets/listed", 1).n_events == 3


def test_a_journalled_unit_whose_part_is_gone_is_read_again(tmp_path):
    build(recipe([[1, 2], [3]]), tmp_path)
    root = tmp_path / "datasets/listed"
    key = snapshot.read(root).parts[1].groups["events"].key
    shutil.rmtree(root / "events.zarr" / f"events-{key[:32]}")
    build(recipe([[1, 2], [3]]), tmp_path)
    assert reads == ["list 1"]
    np.testing.assert_array_equal(EventStore(root).array("event/id"), [1, 2, 3])


def test_a_line_of_the_journal_that_was_cut_short_costs_that_unit_only(tmp_path):
    build(recipe([[1, 2], [3]]), tmp_path)
    journal = tmp_path / "datasets/listed/journal"
    journal.write_text(journal.read_text()[:-30])
    build(recipe([[1, 2], [3]]), tmp_path)
    assert reads == ["list 1"]
    build(recipe([[1, 2], [3]]), tmp_path)
    assert reads == []


def test_a_unit_that_was_begun_is_read_again_and_its_parts_are_found(tmp_path, monkeypatch):
    units = [list(range(40)), [90, 91]]
    whole = build(recipe(units), tmp_path / "whole")
    assert [whole[n] for n in COUNTS] == [2, 0, 2, 0]
    monkeypatch.setattr(Journal, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(recipe(units), tmp_path)
    monkeypatch.undo()
    resumed = build(recipe(units), tmp_path)
    assert [resumed[n] for n in COUNTS] == [2, 0, 1, 1]
    assert [build(recipe(units), tmp_path)[n] for n in COUNTS] == [0, 2, 0, 0]
    assert resumed["hash"] == whole["hash"]


def test_duplicate_ids_name_both_places_and_make_no_version(tmp_path):
    with pytest.raises(SourceError, match="event id 5 occurs twice: in list 0 and in list 1"):
        build(recipe([[1, 5], [5]]), tmp_path)
    assert versions(tmp_path / "datasets/listed") == []


def test_a_value_that_is_not_finite_names_event_and_column(tmp_path):
    with pytest.raises(SourceError, match=r"list 1: hit/raw\[charge\] of event 7 is nan"):
        build(recipe([[1], [6, 7]], bad=7), tmp_path)
    mended = build(recipe([[1], [6, 7]]), tmp_path)
    assert mended["events"] == 3


def test_an_empty_source_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="no events"):
        build(recipe([]), tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "d", "source": {}}, "source.kind"),
        ({"name": "d", "source": {"kind": "muon_simm"}}, "did you mean 'muon_sim'"),
        ({"name": "d", "source": {"kind": "muon_sim", "n_event": 3}}, "unknown key 'n_event'; did you mean 'n_events'"),
        ({"name": "d", "source": {"kind": "muon_sim"}, "splitt": {}}, "did you mean 'split'"),
        ({"name": "d", "source": {"kind": "muon_sim"}, "split": {"fractions": {"train": 0.5}}}, "sum to 1"),
        ({"name": "../d", "source": {"kind": "muon_sim"}}, "name"),
    ],
)
def test_bad_recipes_are_one_line(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build(values, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_build_that_another_overtook_is_refused(tmp_path, monkeypatch):
    build(recipe([[1]]), tmp_path)
    commit = snapshot.commit

    def overtaken(root, make):
        monkeypatch.setattr(snapshot, "commit", commit)
        build(recipe([[1], [2]]), tmp_path)
        return commit(root, make)

    monkeypatch.setattr(snapshot, "commit", overtaken)
    with pytest.raises(StoreError, match="another build made version 2"):
        build(recipe([[1], [3]]), tmp_path)
    assert versions(tmp_path / "datasets/listed") == [1, 2]


def test_muon_sim_grows_without_reading_full_blocks_again(tmp_path):
    small = build(tiny_recipe(4096), tmp_path)
    grown = build(tiny_recipe(6144), tmp_path)
    assert (small["units_read"], grown["units_read"], grown["units_skipped"]) == (2, 1, 2)
