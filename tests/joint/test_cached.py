"""Every place gives the same batches; what does not fit is left out with the reason."""

import numpy as np
import pytest
import torch

from frz.errors import TrainingError
from frz.heads.prefix import prepare
from frz.heads.run import load_head
from frz.joint.cached import cached, stored
from frz.loading import residency
from frz.loading.order import OrderConfig
from frz.store import EventStore

CPU = torch.device("cpu")


@pytest.fixture
def table(tiny):
    head, about = load_head("tiny", tiny)
    return prepare(head, EventStore(about["features"]["store"]), np.arange(6))


def test_all_places_give_the_same_batches(table, tmp_path):
    found, left_out = cached(table, OrderConfig(block=2, shuffle_blocks=2), 4, 0, CPU, tmp_path / "mapped")
    assert (list(found), left_out) == (["ram", "mapped"], {})
    plan = found["ram"].plan(0)
    assert sorted(np.concatenate(plan)) == list(range(table.n_events))
    for ours, theirs in zip(found["ram"].batches(plan), found["mapped"].batches(found["mapped"].plan(0)), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_parts_hold_all_events(table, tmp_path, monkeypatch):
    monkeypatch.setattr("frz.joint.cached.PREPARE_EVENTS", 4)
    store = stored(table, tmp_path / "mapped")
    assert (store.n_parts, store.n_events) == (2, 6)
    np.testing.assert_array_equal(store.array("slot/embedding"), table.arrays["slot/embedding"])


def test_what_does_not_fit_is_left_out(table, tmp_path, monkeypatch):
    n_bytes = sum(values.nbytes for values in table.arrays.values())
    monkeypatch.setattr(residency, "free_memory", lambda: n_bytes)
    found, left_out = cached(table, OrderConfig(block=1, shuffle_blocks=1), 4, 0, CPU, tmp_path / "mapped")
    assert (list(found), list(left_out)) == (["mapped"], ["ram"])
    assert "the prepared events do not fit" in left_out["ram"]
    monkeypatch.setattr(residency, "free_memory", lambda: 0)
    with pytest.raises(TrainingError, match="do not fit"):
        cached(table, OrderConfig(), 4, 0, CPU, tmp_path / "mapped")
