"""`frz.open`: the same arrays as numpy, torch, dask and pandas."""

import numpy as np
import pytest
import torch

import frz
from frz import artifacts as names
from frz.errors import StoreError


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


def test_pandas_has_named_columns_and_the_event_id(view):
    pytest.importorskip("pandas")
    frame = view.pandas("track", 0, 10)
    arrays = view.range(0, 10, ["event/id", "track/parameters"])
    assert list(frame.columns)[:4] == ["parameters.pt", "parameters.eta", "parameters.phi", "parameters.q"]
    np.testing.assert_array_equal(frame["parameters.pt"], arrays["track/parameters"][:, 0])
    np.testing.assert_array_equal(frame.index, np.repeat(arrays["event/id"], np.diff(arrays["track/offsets"])))
    events = view.pandas("event")
    assert len(events) == view.n_events


def test_a_folder_without_a_store_is_one_line(tmp_path):
    with pytest.raises(StoreError, match="no event store"):
        frz.open(str(tmp_path))
