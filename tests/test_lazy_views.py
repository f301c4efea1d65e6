"""`frz.open(...).dask` and `.xarray`: nothing is read before it is asked for, and what is read is what is stored."""

import numpy as np
import pytest

import frz
from frz import artifacts as names


@pytest.fixture
def view(tiny):
    return frz.open(str(names.features("tiny", tiny).path))


def test_xarray_is_lazy_and_shows_the_same_numbers(view):
    pytest.importorskip("xarray")
    dataset = view.xarray()
    assert set(dataset.variables) >= set(view.keys())
    assert dataset["hit/embedding"].chunks is not None
    assert dataset["hit/embedding"].dims == ("hit", "hit_embedding_0")
    for name in view.keys():  # noqa: SIM118
        np.testing.assert_array_equal(dataset[name].values, view[name])
    offsets = dataset["hit/offsets"].values
    assert dataset["hit/offsets"].dims == ("event_edge",)
    cut = dataset["hit/embedding"].isel(hit=slice(*offsets[3:5]))
    np.testing.assert_array_equal(cut.values, view.events(3, "hit/embedding")["hit/embedding"])
    assert (
        dataset["track/parameters"].sel(track_parameters_0="pt").values.tolist()
        == view["track/parameters"][:, 0].tolist()
    )


def test_a_lazy_array_is_read_from_several_threads(view):
    lazy, whole = view.dask("hit/embedding"), view["hit/embedding"]
    assert lazy.chunks[0] == tuple(view.snapshot.parts.counts["hit"])
    np.testing.assert_array_equal(lazy.compute(scheduler="threads", num_workers=4), whole)
