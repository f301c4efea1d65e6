"""What is listed and described is what was written."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from frz import inventory
from frz.errors import CheckpointError, ConfigError
from frz.store import Array, Axis, Catalogue, Schema, Snapshot, Split, atomic, snapshot, write_part
from frz.store.catalogue import entry

SCHEMA = Schema(
    axes={"hit": Axis()},
    arrays={
        "event/id": Array(dtype="int64", role="meta"),
        "event/group": Array(dtype="int64", role="meta"),
        "hit/raw": Array(dtype="float32", shape=(2,), unit="mm", columns=("x", "y")),
    },
)


def write_safetensors(path: Path, shapes: dict[str, list[int]]) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({"__metadata__": {"a": "b"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of 3 events with 5 hits in two versions, a run under way and one that is done."""
    store = tmp_path / "datasets" / "tiny"
    snapshot.prepare_root(store)
    arrays = {
        "event/id": np.arange(3),
        "event/group": np.arange(3),
        "hit/offsets": np.array([0, 4, 4, 5]),
        "hit/raw": np.zeros((5, 2), np.float32),
    }
    record = write_part(store, "events", "00" * 32, SCHEMA, arrays)
    part = entry({"events": record})
    for fraction in (1.0, 0.5):
        split = Split(fractions={"train": fraction, "test": 1 - fraction})
        about = {"source": "by hand"}
        made = Snapshot(name="tiny", event_schema=SCHEMA, split=split, parts=Catalogue.of([part]), about=about)
        snapshot.commit(store, lambda latest, made=made: made)  # type: ignore[misc]
    for run, finished in (("11111111", True), ("22222222", False)):
        folder = tmp_path / "backbones" / "net" / run
        folder.mkdir(parents=True)
        card = {"finished": finished, "created": f"2026-01-0{run[0]}T02:03:04+00:00"}
        known = {"epochs": 7, "score": 0.5, "fingerprint": "ab" * 32} if finished else {}
        (folder / "card.json").write_text(json.dumps(card | known))
    write_safetensors(tmp_path / "backbones" / "net" / "11111111" / "best.safetensors", {"a": [3, 4], "b": [5]})
    return tmp_path


def test_the_listing_has_a_row_for_everything(root: Path) -> None:
    rows = inventory.listing(root)
    assert [(r["kind"], r["name"], r["state"]) for r in rows] == [
        ("datasets", "tiny@2", "finished"),
        ("backbones", "net@11111111", "finished"),
        ("backbones", "net@22222222", "unfinished"),
    ]
    assert (rows[0]["versions"], rows[0]["events"]) == (2, 3)
    known = [(row["epochs"], row["score"], row["fingerprint"], row["created"]) for row in rows[1:]]
    assert known == [(7, 0.5, "abababab", "2026-01-01 02:03"), (None, None, None, "2026-01-02 02:03")]


def test_the_newest_run_is_the_one_that_the_bare_name_means(root: Path) -> None:
    for finished, newest in (({}, "11111111"), ({"00000000": "2026-01-03"}, "00000000")):
        for run, created in finished.items():
            (root / "backbones" / "net" / run).mkdir()
            card = {"finished": True, "created": created}
            (root / "backbones" / "net" / run / "card.json").write_text(json.dumps(card))
        marked = [row["name"] for row in inventory.listing(root) if row.get("newest")]
        assert marked == [f"net@{newest}"] == [inventory.describe("net", root)["name"]]


def test_every_listed_name_can_be_described(root: Path) -> None:
    for row in inventory.listing(root):
        assert Path(inventory.describe(row["name"], root)["path"]).is_dir()


def test_nothing_lies_in_an_empty_folder_or_where_the_default_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert inventory.listing(tmp_path) == inventory.listing(Path("artifacts")) == []


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none: no such folder"):
        inventory.listing(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file: is a file"):
        inventory.listing(tmp_path / "file")


def test_a_store_that_was_broken_off_is_listed_as_empty(root: Path) -> None:
    snapshot.prepare_root(root / "datasets" / "begun")
    first = inventory.listing(root)[0]
    assert (first["name"], first["state"], first["events"]) == ("begun", "empty", None)


def test_a_store_whose_parts_no_version_holds_yet_is_unfinished(root: Path) -> None:
    (first,) = (root / "datasets" / "tiny" / "snapshots").glob("1.json")
    for file in (root / "datasets" / "tiny").glob("*/*.json"):
        if file.stem.isdigit():
            file.unlink()
    assert not first.exists()
    row = inventory.listing(root)[0]
    assert (row["name"], row["state"], row["versions"], row["events"]) == ("tiny", "unfinished", 0, None)


def test_features_are_listed_with_the_version_of_their_data(tiny: Path) -> None:
    rows = {row["kind"]: row for row in inventory.listing(tiny)}
    assert rows["features"]["data"] == "tiny@1"
    assert "data" not in rows["datasets"]


def test_a_store_is_described_by_its_counts_and_sizes(root: Path) -> None:
    found = inventory.describe("tiny@1", root)
    assert (found["version"], found["versions"], found["events"], found["parts"]) == (1, [1, 2], 3, 1)
    assert found["splits"] == {"train": 3, "test": 0}
    assert found["axes"] == {"hit": {"parent": "event", "members": 5, "largest": 4}}
    assert found["arrays"]["hit/raw"]["bytes"] == 5 * 2 * 4
    assert found["bytes"] == 5 * 2 * 4 + 2 * 3 * 8
    assert found["about"] == {"source": "by hand"}
    assert found["arrays"]["hit/raw"]["codec"] == "fast"
    parts = list((root / "datasets" / "tiny" / "events.zarr").glob("events-*/*/*"))  # folders of arrays
    assert found["stored_bytes"] == sum(atomic.measure(path)[0] for path in parts if path.is_dir())
    assert found["parts_in_place"] == "all"


def test_axes_come_parents_first_however_they_were_kept() -> None:
    schema = Schema(axes={"b": Axis(), "a": Axis(parent="b")}, arrays={"a/x": Array(dtype="int8")})
    for order in (("b", "a"), ("a", "b")):
        parts = Catalogue(n_events=[1], largest={axis: [2] for axis in order})
        assert list(Snapshot(name="s", event_schema=schema, split=Split(), parts=parts).largest()) == ["b", "a"]


def test_a_store_with_a_part_missing_is_described_and_says_so(root: Path) -> None:
    store = root / "datasets" / "tiny"
    shutil.rmtree(next((store / "events.zarr").glob("events-*")))
    found = inventory.describe("tiny", root)
    assert found["parts_in_place"] == f"1 of 1 missing: run 'frz verify {store}'"
    assert found["splits"] == {"train": None, "test": None}


def test_a_run_is_described_by_its_weights(root: Path) -> None:
    found = inventory.describe("net", root)
    assert found["weights"] == {"best": {"tensors": 2, "numbers": 17, "dtypes": ["F32"]}}
    assert found["card"]["finished"] is True
    assert found["files"]["best.safetensors"] > 17 * 4


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, struct.pack("<Q", 4) + b"[1]\n", struct.pack("<Q", 2) + b"{"])
def test_damaged_weights_are_named(data: bytes, root: Path) -> None:
    (root / "backbones" / "net" / "11111111" / "best.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"best\.safetensors: not a whole safetensors file"):
        inventory.describe("net", root)


def test_a_run_refers_to_a_version_by_its_hash_also_before_it_is_finished(root: Path) -> None:
    store = root / "datasets" / "tiny"
    folder = root / "backbones" / "net"
    card = {"finished": True, "data": {"hash": snapshot.load(store, store / "snapshots" / "1.json").hash}}
    (folder / "11111111" / "card.json").write_text(json.dumps(card))
    (folder / "22222222" / "config.yaml").write_text(f"data:\n  hash: {card['data']['hash']}\n")  # type: ignore[index]
    assert inventory.referring(store, 1, root) == ["backbones/net@11111111", "backbones/net@22222222"]
    assert inventory.referring(store, 2, root) == []
    assert inventory.referring(store, 3, root) == []
