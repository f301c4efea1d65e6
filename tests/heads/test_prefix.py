"""What a prefix leaves is made once, kept whole, and never taken for another."""

import shutil

import numpy as np
import pytest
import torch

from conftest import TINY_HEAD
from frz import artifacts as names
from frz.config import import_class, parse
from frz.errors import ConfigError, StoreError
from frz.heads import prefix
from frz.heads.contract import HEADS
from frz.heads.prefix import identity, keep, prepare, prepared
from frz.heads.regression import RegressionHead
from frz.heads.settings import RegressionConfig
from frz.loading.config import LoadingConfig
from frz.loading.held import held_names
from frz.progress import show
from frz.store import EventStore, verify

CPU = torch.device("cpu")


@pytest.fixture
def store(tiny, tmp_path, monkeypatch):
    """Features in a place of their own, prepared in several parts."""
    monkeypatch.setattr(prefix, "PREPARE_EVENTS", 100)
    found = names.features("tiny", tiny)
    return EventStore(shutil.copytree(found.path, tmp_path / "features"), found.version)


def build(store, **changes):
    config = parse(RegressionConfig, TINY_HEAD["model"] | changes, "test")
    return RegressionHead(config, store.schema), config.model_dump(mode="json")


def made(store, prefix="store", residency="auto", **changes):
    head, settings = build(store, **changes)
    loading = LoadingConfig(prefix=prefix, residency=residency, block=16, shuffle_blocks=4)
    return prepared(head, store, settings, loading, CPU)


@pytest.fixture
def calls(monkeypatch):
    """Number of events of each call of `prepare`; the one for sizes is left out."""
    counts = []
    original = RegressionHead.prepare

    def counted(self, events):
        counts.append(len(events["event/id"]))
        return original(self, events)

    monkeypatch.setattr(RegressionHead, "prepare", counted)
    monkeypatch.setattr(prefix, "_event_bytes", lambda head, store: 100.0)
    return counts


def assert_same(one, other):
    assert one.n_events == other.n_events
    for name in held_names(one.schema.arrays, one.schema):
        np.testing.assert_array_equal(one.array(name), other.array(name), err_msg=name)


def folders(store):
    return sorted(path.name for path in (store.root / "derived").glob("*"))


def test_a_store_holds_what_memory_would(store, calls):
    kept = made(store).reader
    assert calls == [100, 100, 100, 20]
    assert isinstance(kept, EventStore)
    assert_same(kept, prepare(build(store)[0], store))
    assert verify.verify(kept.root).damages == []


def test_the_next_run_prepares_nothing(store, calls):
    first = made(store).reader
    calls.clear()
    again = made(store, prefix="auto").reader
    assert calls == []
    assert again.snapshot.hash == first.snapshot.hash


def test_in_memory_nothing_is_written(store, calls):
    held = made(store, prefix="auto").reader
    assert held.n_events == store.n_events
    assert folders(store) == []
    made(store)
    calls.clear()
    made(store, prefix="memory")
    assert calls == [100, 100, 100, 20]


def test_heads_share_what_their_prefixes_do_not_look_at(store, calls):
    made(store)
    calls.clear()
    other = {"dropout": 0.3, "regression_hidden_dim": 7, "regression_num_layers": 1, "hit_net_hidden": 5, "beta": 0.5}
    other |= {"periodic_output": "vector", "loss_weight": 2.0, "field_weights": {"pt": 2.0}}
    shared = made(store, **other).reader
    assert calls == []
    assert len(folders(store)) == 1
    assert other.keys() <= RegressionHead.not_in_prefix
    assert_same(shared, prepare(build(store, **other)[0], store))


@pytest.mark.parametrize(
    "change",
    [{"assignment_threshold": 0.5}, {"slots": "valid"}, {"fields": ["eta", "pt", "q"]}, {"inverse_fields": []}]
    + [{"hit_nets": ["raw"]}, {"line": ["r", "globEdgeLowZ"]}],
)
def test_other_settings_are_another_prefix(store, change):
    before = made(store).reader
    other = made(store, **change).reader
    assert other.root != before.root
    assert_same(other, prepare(build(store, **change)[0], store))


@pytest.mark.parametrize("name", sorted(HEADS))
def test_keys_that_are_left_out_of_the_identity_are_keys(name):
    head = import_class(HEADS[name], HEADS, "head")
    assert "loss_weight" in head.not_in_prefix
    assert head.not_in_prefix <= head.Config.model_fields.keys()


def test_changed_code_is_another_prefix(store, monkeypatch):
    head, settings = build(store)
    before = identity(head, store, settings)
    assert {"frz.heads.regression", "frz.heads.slots", "frz.heads.lines"} <= before["code"].keys()
    monkeypatch.setattr(prefix, "code_digests", lambda modules: dict.fromkeys(modules, "changed"))
    assert prefix.digest_of(identity(head, store, settings)) != prefix.digest_of(before)


def test_other_features_are_another_prefix(store):
    head, settings = build(store)
    before = identity(head, store, settings)
    other = EventStore.of(store.root, store.snapshot.model_copy(update={"hash": "0" * 64}))
    assert identity(head, other, settings) != before


def test_what_was_interrupted_goes_on(store, calls, monkeypatch):
    write_part = prefix.write_part
    written = []

    def broken(*arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(write_part(*arguments))
        return written[-1]

    monkeypatch.setattr(prefix, "write_part", broken)
    with pytest.raises(KeyboardInterrupt):
        made(store)
    monkeypatch.setattr(prefix, "write_part", write_part)
    calls.clear()
    kept = made(store).reader
    assert calls == [100, 20]
    assert_same(kept, prepare(build(store)[0], store))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(bytes(data))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("file", "damage"),
    [("slot/goal/c/0/0", flip), ("slot/goal/c/0/0", cut), ("hit/scaled/c/0/0", lambda path: path.unlink())]
    + [("zarr.json", flip), ("slot/offsets/c/0", flip)],
)
def test_a_damaged_part_is_made_again_with_one_line(store, calls, capsys, file, damage):
    kept = made(store).reader
    part = sorted((kept.root / "events.zarr").glob("events-*"))[0]
    damage(part / file)
    calls.clear()
    show("lines")
    again = made(store).reader
    show("none")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "made again" in line]
    assert part.name in line
    assert len(calls) == 1
    assert_same(again, prepare(build(store)[0], store))
    assert verify.verify(kept.root).damages == []


def test_mapped_parts_of_the_wrong_size_are_made_again(store, calls):
    kept = made(store, residency="mapped").reader
    cut(next((kept.root / "events.zarr").glob("events-*/slot/goal/c/0/0")))
    calls.clear()
    made(store, residency="mapped")
    assert len(calls) == 1


def test_a_damaged_snapshot_is_made_again(store, calls):
    kept = made(store).reader
    flip(kept.root / "snapshots/1.json")
    calls.clear()
    assert_same(made(store).reader, kept)
    assert calls == []


def test_what_is_mapped_is_stored_unless_that_is_refused(store):
    assert isinstance(made(store, prefix="auto", residency="mapped").reader, EventStore)
    with pytest.raises(ConfigError, match=r"loading.prefix = memory: .* set loading.prefix to store"):
        made(store, prefix="memory", residency="mapped")


def test_what_does_not_fit_in_memory_is_stored(store, monkeypatch):
    monkeypatch.setattr("frz.loading.residency.free_memory", lambda: 2_000_000)
    found = made(store, prefix="auto")
    assert found.residency.mode == "mapped"
    assert isinstance(found.reader, EventStore)


def test_a_folder_that_cannot_be_written_to_is_one_line(store, monkeypatch):
    def refused(root):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(prefix.snapshot, "prepare_root", refused)
    with pytest.raises(StoreError, match="set loading.prefix to memory"):
        made(store)


def test_stored_events_are_plain_whatever_the_features_are(store):
    """bfloat16 and packed arrays are kept as they are in memory."""
    head, settings = build(store)
    schema = head.prepared
    packed = {
        name: spec.model_copy(update={"codec": "compact", "group": "carried"}) for name, spec in schema.arrays.items()
    }
    packed["slot/goal"] = packed["slot/goal"].model_copy(update={"dtype": "bfloat16"})

    class Odd(RegressionHead):
        @property
        def prepared(self):
            return schema.model_copy(update={"arrays": packed})

    odd = Odd(head.config, store.schema)
    kept = keep(odd, store, store.root / "derived/odd", {"features": "x"}, thorough=True)
    assert {spec.codec for spec in kept.schema.arrays.values()} == {"fast"}
    assert_same(kept, prepare(head, store))
