"""Cached training is training behind the frozen backbone: bit for bit with the same batches, closely with others."""

import numpy as np
import pytest
import torch

from conftest import TINY_HEAD
from frz import artifacts as names
from frz.config import import_class, parse
from frz.extract.opening import open_both
from frz.extract.settings import Settings
from frz.heads.contract import HEADS
from frz.heads.prefix import prepare
from frz.joint.on_the_fly import FrozenFeatures, OnTheFly
from frz.loading.source import ReaderSource
from frz.store import EventStore
from frz.training.config import TrainerConfig
from frz.training.loop import fit

EXACT = Settings(dtype={"*": "float32"})


@pytest.fixture(scope="module")
def both(tiny):
    frozen, source = open_both(names.weights("tiny", tiny), tiny)
    return frozen, source, EventStore(*names.features("tiny", tiny))


def new_head(schema):
    head_class = import_class("regression", HEADS, "head")
    torch.manual_seed(0)
    return head_class(parse(head_class.Config, TINY_HEAD["model"], "test"), schema)


def losses(head, source, folder, epochs):
    config = TrainerConfig(max_epochs=epochs, batch_size=50, device="cpu", window=1)
    found = []
    loss = head.loss

    def noted(batch):
        result = loss(batch)
        found.append(result[0].item())
        return result

    head.loss = noted
    fit(head, source, None, config, folder)
    return np.array(found)


def test_features_of_the_same_batches_are_the_stored_ones_bit_for_bit(both):
    frozen, source, store = both
    live = FrozenFeatures(frozen, source, EXACT, batching="run")
    positions = np.array([5, 300, 0, 64, 63])
    stored, made = store.events(positions), live.events(positions)
    assert set(stored) == set(made)
    for name, values in stored.items():
        np.testing.assert_array_equal(made[name], values, err_msg=name)


def test_features_of_other_batches_agree_to_rounding(both):
    frozen, source, store = both
    live = FrozenFeatures(frozen, source, EXACT, batching="read")
    positions = np.array([5, 300, 0, 64, 63])
    stored, made = store.events(positions), live.events(positions)
    for name in frozen.module.outputs:
        np.testing.assert_allclose(made[name], stored[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("batching", ["run", "read"])
def test_the_loss_curve_on_the_fly_is_the_cached_one(both, tmp_path, batching):
    frozen, source, store = both
    cached_head = new_head(store.schema)
    table = prepare(cached_head, store)
    train = store.split("train")
    cached_head.fit([table.events(train)])
    plans = ReaderSource(table, cached_head.prepared.arrays, 50, positions=train, window=1)
    cached = losses(cached_head, plans, tmp_path / "cached", 2)

    live = FrozenFeatures(frozen, source, EXACT, batching=batching)
    live_head = new_head(live.schema)
    live_head.fit([table.events(train)])
    on_the_fly = losses(live_head, OnTheFly(live, live_head, plans), tmp_path / "live", 2)
    if batching == "run":
        np.testing.assert_array_equal(on_the_fly, cached)
    else:
        np.testing.assert_allclose(on_the_fly[:10], cached[:10], rtol=1e-5, atol=1e-5)
