"""What was exported is read back equal, by the libraries that the formats belong to."""

import json

import numpy as np
import pytest
import zarr
from events_of_every_shape import SCHEMAS, equal, random_events
from safetensors import safe_open
from test_reader import build

from conftest import LEFT
from frz.errors import ConfigError
from frz.store import Array, Axis, EventArrays, EventStore, Schema, bfloat16, export, ragged
from frz.store.cut import PartLimits

N_EVENTS = 40


@pytest.fixture(params=sorted(SCHEMAS))
def store(request, tmp_path):
    schema = SCHEMAS[request.param]
    return build(tmp_path / "s", schema, random_events(schema, N_EVENTS, 1), PartLimits(events=7))


def expected(store: EventStore, split: str | None) -> EventArrays:
    return store.range(0, N_EVENTS) if split is None else store.events(store.split(split))


@pytest.mark.parametrize("split", [None, "train"])
def test_zarr(store, split, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "ZARR_CHUNK", 100)  # chunks smaller and larger than a part
    done = export.export(store, tmp_path / "out", "zarr", split=split)
    root = zarr.open_consolidated(tmp_path / "out")
    wanted = expected(store, split)
    equal({name: np.asarray(root[name][...]) for name in wanted}, wanted)
    assert root.attrs["frz"]["hash"] == store.snapshot.hash
    assert root.attrs["frz"]["version"] == 1
    assert done["events"] == len(wanted["event/id"])
    assert done["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s"]


@pytest.mark.parametrize("split", [None, "train"])
def test_parquet(store, split, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    export.export(store, tmp_path / "out", "parquet", split=split)
    wanted = expected(store, split)
    ids = wanted["event/id"]
    for axis in ["event", *store.schema.ordered_axes()]:
        table = pq.read_table(tmp_path / "out" / f"{axis}.parquet")
        lengths = 1 if axis == "event" else ragged.lengths(wanted, store.schema, axis)
        np.testing.assert_array_equal(table["event/id"].to_numpy(), np.repeat(ids, lengths))
        for name, spec in store.schema.arrays.items():
            if name.startswith(f"{axis}/") and name != "event/id":
                column = table[name.partition("/")[2]].combine_chunks()
                for _ in spec.shape:
                    column = column.flatten()
                found = column.to_numpy(zero_copy_only=False).reshape(wanted[name].shape)
                np.testing.assert_array_equal(found, wanted[name])
                assert found.dtype == wanted[name].dtype
                if spec.columns:
                    about = table.schema.field(name.partition("/")[2]).metadata
                    assert json.loads(about[b"columns"]) == list(spec.columns)
        parent = "event" if axis == "event" else store.schema.axes[axis].parent
        if parent != "event":
            starts = ragged.edges(wanted, store.schema, parent)[:-1]
            event = np.repeat(np.arange(len(ids)), lengths)
            of = np.bincount(
                table[parent].to_numpy() + starts[event],
                minlength=int(ragged.lengths(wanted, store.schema, parent).sum()),
            )
            length = store.schema.axes[axis].length
            per_parent = np.diff(wanted[f"{axis}/offsets"]) if length is None else np.full(len(of), length)
            np.testing.assert_array_equal(of, per_parent)
    about = json.loads(pq.read_schema(tmp_path / "out" / "event.parquet").metadata[b"frz"])
    assert (about["hash"], about["split"]) == (store.snapshot.hash, split)


@pytest.mark.parametrize("split", [None, "train"])
def test_safetensors(store, split, tmp_path):
    export.export(store, tmp_path / "out.safetensors", "safetensors", split=split)
    wanted = expected(store, split)
    with safe_open(tmp_path / "out.safetensors", "np") as file:
        equal({name: file.get_tensor(name) for name in file.keys()}, wanted)  # noqa: SIM118 (not a dict)
        assert json.loads(file.metadata()["frz"])["hash"] == store.snapshot.hash


def test_bfloat16_is_bfloat16_where_there_is_one(tmp_path):
    torch = pytest.importorskip("torch")
    schema = Schema(
        axes={"hit": Axis()},
        arrays=SCHEMAS["image"].select(["event/id", "event/group"]).arrays | {"hit/x": Array(dtype="bfloat16")},
    )
    arrays = random_events(
        Schema(
            axes={"hit": Axis()},
            arrays={
                "event/id": Array(dtype="int64"),
                "event/group": Array(dtype="int64"),
                "hit/x": Array(dtype="float32"),
            },
        ),
        9,
        0,
    )
    arrays["hit/x"] = bfloat16.widen((arrays["hit/x"].view(np.uint32) >> 16).astype(np.uint16))
    store = build(tmp_path / "s", schema, arrays, PartLimits(events=4))
    export.export(store, tmp_path / "x.safetensors", "safetensors", "hit/x")
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["event/id", "hit/offsets", "hit/x"]
        found = file.get_tensor("hit/x")
    assert found.dtype == torch.bfloat16
    np.testing.assert_array_equal(found.float().numpy(), arrays["hit/x"])
    export.export(store, tmp_path / "z", "zarr")
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "z")["hit/x"][...], arrays["hit/x"])


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    schema = SCHEMAS["tracking"]
    store = build(tmp_path / "s", schema, random_events(schema, 9, 1), PartLimits(events=4))
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="no format 'zar'; did you mean 'zarr'"):
        export.export(store, out, "zar")
    with pytest.raises(ConfigError, match="no array 'hit/rew'; did you mean 'hit/raw'"):
        export.export(store, out, "zarr", ["hit/rew"])
    with pytest.raises(ConfigError, match="no split 'dev'"):
        export.export(store, out, "zarr", split="dev")

    def broken(chosen, aside, bar):
        aside.mkdir()
        (aside / "half").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setitem(export.WRITERS, "zarr", broken)
    with pytest.raises(KeyboardInterrupt):
        export.export(store, out, "zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    out.write_text("mine")
    left = tmp_path / export.ASIDE / LEFT
    left.mkdir(parents=True)  # by an export that was killed
    for to in export.WRITERS:
        with pytest.raises(ConfigError, match="is there already; give another place"):
            export.export(store, out, to)
    assert out.read_text() == "mine"
    assert not left.parent.exists()
