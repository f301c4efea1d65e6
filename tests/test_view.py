"""`frz.open`: the same arrays as numpy, torch, dask and pandas."""

import numpy as np
import pytest
import torch

import frz
from frz import artifacts as names
from frz.config import import_extra
from frz.errors import ConfigError, FrzError, StoreError
from frz.store import Array, Catalogue, Schema, Snapshot, Split, part, snapshot
from frz.store.catalogue import entry


@pytest.fixture
def view(tiny):
    return frz.open(str(names.features("tiny", tiny).path))


def test_all_views_show_the_same_numbers(view):
    embedding = view["hit/embedding"]
    assert embedding.shape == (int(view.lengths("hit").sum()), 8)
    torch.testing.assert_close(view.torch("hit/embedding"), torch.from_numpy(embedding))
    lazy = view.dask("hit/embedding")
    assert lazy.numblocks[0] == view.n_parts
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), embedding)
    np.testing.assert_array_equal(lazy[100:200].compute(scheduler="synchronous"), embedding[100:200])
    np.testing.assert_array_equal(view.dask("hit/offsets").compute(scheduler="synchronous"), view["hit/offsets"])


def test_a_view_says_what_it_holds(view):
    assert {"hit/embedding", "hit/offsets", "event/id"} <= set(view.keys())
    assert list(view) == view.keys()
    assert "hit/embedding" in view
    assert "hit/embeding" not in view
    first, *lines = repr(view).splitlines()
    assert first.startswith(f"{view.snapshot.name}@1: {len(view)} events in ")
    listed = {name: (dtype, shape) for name, dtype, shape in (line.split(maxsplit=2) for line in lines)}
    assert listed == {n: (view[n].dtype.name, str(view[n].shape)) for n in view.schema.arrays}


@pytest.mark.parametrize("ask", [lambda v, n: v[n], lambda v, n: v.torch(n), lambda v, n: v.dask(n)])
def test_an_array_that_is_not_there_is_said_with_the_nearest(view, ask):
    with pytest.raises(ConfigError, match=r"no array 'hit/embeding'; did you mean 'hit/embedding'\?"):
        ask(view, "hit/embeding")


def test_an_axis_that_is_not_there_is_said_with_the_nearest(view):
    pytest.importorskip("pandas")
    with pytest.raises(ConfigError, match=r"no axis 'tracks'; did you mean 'track'\? \(have: event, hit,"):
        view.pandas("tracks")


def test_half_precision_is_widened_for_pandas(tmp_path):
    pytest.importorskip("pandas")
    schema = Schema(arrays={"event/id": Array(dtype="int64"), "event/x": Array(dtype="float16")})
    snapshot.prepare_root(tmp_path)
    values = {"event/id": np.arange(400), "event/x": np.full(400, 300, np.float16)}
    parts = Catalogue.of([entry({"events": part.write_part(tmp_path, "events", "0" * 64, schema, values)})])
    snapshot.commit(tmp_path, lambda _: Snapshot(name="d", event_schema=schema, split=Split(), parts=parts))
    view = frz.open(tmp_path)
    assert view["event/x"].dtype == np.float16
    frame = view.pandas("event")
    assert frame["x"].dtype == np.float32
    assert frame["x"].mean() == 300  # their sum is more than float16 can hold
    frame.describe()


def test_a_module_that_is_not_installed_names_its_extra():
    with pytest.raises(ConfigError, match=r"needs no_such_module .*; pip install 'frz\[parquet\]'"):
        import_extra("no_such_module.sub", "parquet")


def test_pandas_has_named_columns_and_the_event_id(view):
    pytest.importorskip("pandas")
    frame = view.pandas("track", 0, 10)
    arrays = view.range(0, 10, ["event/id", "track/parameters"])
    assert list(frame.columns)[:4] == ["parameters.pt", "parameters.eta", "parameters.phi", "parameters.q"]
    np.testing.assert_array_equal(frame["parameters.pt"], arrays["track/parameters"][:, 0])
    np.testing.assert_array_equal(frame.index, np.repeat(arrays["event/id"], np.diff(arrays["track/offsets"])))
    events = view.pandas("event")
    assert len(events) == view.n_events


def test_a_store_is_opened_by_path_or_by_name(tiny, monkeypatch):
    monkeypatch.setenv("FRZ_ARTIFACTS", str(tiny))
    path = tiny / "datasets" / "tiny"
    for name in (path, str(path), "tiny", "tiny@1", "datasets/tiny"):
        assert frz.open(name).root == path
    assert frz.open("features/tiny").root == names.features("tiny", tiny).path
    with pytest.raises(StoreError, match="no version 7"):
        frz.open("tiny", version=7)
    with pytest.raises(FrzError, match="did you mean 'tiny'"):
        frz.open("tinny")


@pytest.mark.parametrize("place", ["", "datasets", "datasets/tinny", "datasets/tiny/snapshots"])
def test_a_place_without_a_store_is_said_with_the_stores_beside_it(tiny, place):
    with pytest.raises(StoreError, match=rf"no event store here;.*{tiny}/datasets/tiny\b"):
        frz.open(tiny / place)


def test_where_nothing_is_the_first_command_is_named(tmp_path, monkeypatch):
    with pytest.raises(StoreError, match="no event store here; build or extract one first"):
        frz.open(tmp_path)
    monkeypatch.setenv("FRZ_ARTIFACTS", str(tmp_path))
    with pytest.raises(FrzError, match="nothing is called 'muon-sim'; nothing is here yet; start with 'frz demo'"):
        frz.open("muon-sim")
