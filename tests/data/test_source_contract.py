"""Every source of the table keeps the contract; a new one needs a line in `SETTINGS` and no test of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_seqset import write_all
from made_up_stays import write_both
from made_up_velo import events, write_archive

from frz.config import import_class, parse
from frz.data.source import SOURCES, Source
from frz.store import ragged
from frz.store.schema import GROUP, ID, Schema


def settings(kind: str, folder: Path) -> dict[str, Any]:
    if kind == "velo":
        return {"path": str(write_archive(folder / "events.tar.gz", events(4))), "wedges": 6}
    if kind == "seqset":
        return {"path": str(write_all(folder)), "embedding": "cached.csv"}
    if kind == "physionet2012":
        return {"path": str(write_both(folder))}
    return {"muon_sim": {"n_events": 2200}, "icu_sim": {"n_events": 2200, "hours": 6.0}}[kind]


@pytest.fixture(scope="module", params=sorted(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    return make(request.param, tmp_path_factory.mktemp("source"))


def make(kind: str, folder: Path) -> Source:
    source_class = import_class(kind, SOURCES, "source")
    return source_class(parse(source_class.Config, settings(kind, folder), kind))


@pytest.fixture(scope="module")
def batches(source: Source) -> list[dict[str, np.ndarray]]:
    return [batch for unit in source.units() for batch in source.read(unit)]


def test_batches_are_what_the_schema_says(source, batches):
    for batch in batches:
        ragged.check(batch, source.schema)
        for name, spec in source.schema.arrays.items():
            if spec.role == "input" or spec.dtype.startswith("float"):
                wrong = np.isinf if name in source.may_miss else lambda values: ~np.isfinite(values)
                assert not wrong(batch[name].astype(np.float64)).any(), name


def test_ids_are_unique_and_the_number_of_events_is_as_announced(source, batches):
    ids = np.concatenate([batch[ID] for batch in batches])
    assert len(np.unique(ids)) == len(ids) > 0
    assert source.n_events in (None, len(ids))


def test_reading_again_gives_the_same_bytes(source, batches):
    again = [batch for unit in source.units() for batch in source.read(unit)]
    assert len(again) == len(batches)
    for one, other in zip(batches, again, strict=True):
        for name in one:
            assert one[name].tobytes() == other[name].tobytes(), name


def test_units_are_named_apart_and_their_digests_are_stable(source):
    units = source.units()
    assert len({unit.name for unit in units}) == len({unit.digest for unit in units}) == len(units)
    assert units == source.units()


def test_positions_point_into_their_event(source, batches):
    for batch in batches:
        for name, spec in source.schema.arrays.items():
            if spec.refers_to is None:
                continue
            limit = np.repeat(
                ragged.lengths(batch, source.schema, spec.refers_to),
                ragged.lengths(batch, source.schema, name.partition("/")[0]),
            )
            assert (batch[name] >= -1).all(), name
            assert (batch[name] < limit).all(), name


def test_no_group_spans_two_splits(source, batches):
    groups = np.concatenate([batch[GROUP] for batch in batches])
    split = source.split.with_groups(source.parts(), "here")
    members = [set(groups[split.members(name, groups)].tolist()) for name in split.fractions]
    assert len(set().union(*members)) == sum(len(part) for part in members)


def test_parts_hold_every_group_once(source, batches):
    groups = np.unique(np.concatenate([batch[GROUP] for batch in batches]))
    parts = source.parts()
    if parts:
        np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), groups)
    assert set(source.split.published) <= set(parts)


def test_static_arrays_are_what_the_schema_says(source):
    static = source.static()
    assert static.keys() == source.schema.static.keys()
    for name, spec in source.schema.static.items():
        assert static[name].shape == spec.shape, name
        assert static[name].dtype == spec.in_memory, name


def test_what_was_counted_has_names(source, batches):
    assert all(name and n >= 0 for name, n in source.counted().items())


def test_the_schema_is_documented(source):
    assert isinstance(source.schema, Schema)
    assert type(source).licence
    assert type(source).version
    for name, spec in source.schema.arrays.items():
        assert spec.description or spec.columns, name
    assert source.schema.with_role("input")
