"""Packed or not, in any type: the same values, the same digests, and no damage that goes unnoticed."""

import mmap
import shutil
import warnings

import numcodecs.registry
import numpy as np
import pytest
import torch
import zarr
from events_of_every_shape import SCHEMAS, equal, random_events
from hypothesis import given, settings
from hypothesis import strategies as st

from frz.errors import ConfigError, DamageError
from frz.store import EventStore, bfloat16, codecs, part, ragged, shard, snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.opened import open_part
from frz.store.schema import Array, Axis, Schema
from frz.store.snapshot import Snapshot
from frz.store.split import Split

DTYPES = ["bool", "uint8", "int16", "uint16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
EXPLICIT = codecs.parse(["zstd"])
NUMCODECS = codecs.parse([{"name": "numcodecs.shuffle", "configuration": {"elementsize": 2}}, "numcodecs.lz4"])
CODECS = [*codecs.PRESETS, EXPLICIT]


def label(codec):
    """Name of a test case."""
    return codec if isinstance(codec, str) else codec[1]["name"]


def one_array(dtype, shape, codec):
    return Schema(
        axes={"hit": Axis()},
        arrays={"event/id": Array(dtype="int64"), "hit/x": Array(dtype=dtype, shape=shape, codec=codec)},
    )


def random_values(dtype, shape, seed=0):
    """Any bits; of bfloat16, as float32."""
    stored = bfloat16.on_disk(dtype)
    raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * stored.itemsize)
    values = np.frombuffer(raw, stored).reshape(shape)
    if dtype == "bool":
        return values.view(np.uint8) % 2 == 1
    return bfloat16.widen(values) if dtype == "bfloat16" else values


def write(root, values, schema):
    """A part with all rows in one event."""
    snapshot.prepare_root(root)
    arrays = {"event/id": np.arange(1), "hit/offsets": np.array([0, len(values)]), "hit/x": values}
    record = part.write_part(root, "events", "ab" * 32, schema, arrays)
    return record, root / "events.zarr" / part.part_name("events", record.key) / "hit/x"


def same_bits(found, values):
    assert (found.dtype, found.shape) == (values.dtype, values.shape)
    assert found.tobytes() == values.tobytes()


@given(
    dtype=st.sampled_from(DTYPES),
    codec=st.sampled_from(CODECS),
    n=st.sampled_from([0, 1, 7, 3000, 70_000]),
    shape=st.sampled_from([(), (3,), (2, 16)]),
    seed=st.integers(0, 9),
)
@settings(max_examples=60)
def test_any_bits_come_back_from_us_and_from_zarr(tmp_path_factory, dtype, codec, n, shape, seed):
    root = tmp_path_factory.mktemp("store")
    values = random_values(dtype, (n, *shape), seed)
    record, folder = write(root, values, one_array(dtype, shape, codec))
    assert (record.arrays["hit/x"].dtype, record.arrays["hit/x"].codec) == (dtype, codec)
    assert len(record.arrays["hit/x"].files) == (1 if n == 0 else 2)  # zarr.json and the shard
    found = open_part(root, "events", record)["hit/x"]
    same_bits(np.asarray(found), values)
    rng = np.random.default_rng(seed)
    first, last = sorted(rng.integers(0, n + 1, 2))
    same_bits(found[first:last], values[first:last])
    index = rng.integers(0, n, 5 if n else 0)
    same_bits(found.take(index, axis=0), values.take(index, axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = zarr.open_array(folder, mode="r")
        by_zarr = array[...]
    assert array.attrs.get("bfloat16", False) == (dtype == "bfloat16")
    same_bits(bfloat16.widen(by_zarr) if dtype == "bfloat16" else by_zarr, values)


@pytest.mark.parametrize("codec", CODECS, ids=label)
def test_neither_key_nor_digest_nor_version_depends_on_the_codec(tmp_path, codec):
    values = random_values("bfloat16", (500, 8))
    schema, plain = one_array("bfloat16", (8,), codec), one_array("bfloat16", (8,), "fast")
    record, _ = write(tmp_path / "a", values, schema)
    expected, _ = write(tmp_path / "b", values, plain)
    assert record.digest == expected.digest
    assert schema.digest() == plain.digest()
    assert schema.select(["hit/x"]).digest() != one_array("float32", (8,), codec).select(["hit/x"]).digest()
    made = [Snapshot(name="d", event_schema=s, split=Split(), parts=Catalogue.of([])) for s in (schema, plain)]
    assert made[0].content_hash() == made[1].content_hash()
    assert Schema.model_validate_json(schema.model_dump_json()).arrays["hit/x"].codec == codec


@pytest.mark.parametrize("codec", ["compact", "archive", EXPLICIT, NUMCODECS], ids=label)
def test_the_same_values_give_the_same_bytes(tmp_path, codec):
    values = np.random.default_rng(0).normal(size=(60_000, 16)).astype(np.float16)
    found = []
    for name in "ab":
        _, folder = write(tmp_path / name, values, one_array("float16", (16,), codec))
        found.append([(folder / file).read_bytes() for file in ("zarr.json", "c/0/0")])
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("codec", ["compact", "archive", EXPLICIT], ids=label)
def test_a_flipped_bit_is_noticed_by_any_reader(tmp_path, dtype, codec):
    rng = np.random.default_rng(1)
    exact = (rng.normal(size=(20_000, 4)).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    values = exact if dtype == "bfloat16" else exact.astype(dtype)
    record, folder = write(tmp_path, values, one_array(dtype, (4,), codec))
    opened = open_part(tmp_path, "events", record)["hit/x"]
    raw = (folder / "c/0/0").read_bytes()
    for _ in range(120):
        position, bit = rng.integers(0, len(raw)), rng.integers(0, 8)
        damaged = bytearray(raw)
        damaged[position] ^= 1 << bit
        (folder / "c/0/0").write_bytes(damaged)
        with pytest.raises((ValueError, RuntimeError)):
            zarr.open_array(folder, mode="r")[...]
        with pytest.raises(DamageError, match=r"hit/x: cannot be decoded: .*; run 'frz repair"):
            opened[:]
    (folder / "c/0/0").write_bytes(raw)
    same_bits(opened[:], values)


def test_a_shard_that_goes_while_it_is_read_is_an_error_and_never_zeros(tmp_path):
    values = random_values("float32", (900, 4))
    record, folder = write(tmp_path, values, one_array("float32", (4,), "compact"))
    opened = open_part(tmp_path, "events", record)["hit/x"]
    same_bits(opened[:], values)
    shutil.rmtree(folder / "c")
    with pytest.raises(DamageError, match="is missing"):
        opened[3:5]


def test_fast_stays_mapped_whatever_the_type(tmp_path):
    for dtype in DTYPES:
        values = random_values(dtype, (900, 4))
        record, folder = write(tmp_path / dtype, values, one_array(dtype, (4,), "fast"))
        assert shard.map_shard(folder / "c/0/0", str(bfloat16.on_disk(dtype)), (900, 4)) is not None
        opened = open_part(tmp_path / dtype, "events", record)["hit/x"]
        if dtype != "bfloat16":
            base = opened
            while isinstance(base, np.ndarray):
                base = base.base
            assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)


@given(
    codec=st.sampled_from(["fast", "archive"]),
    index=st.one_of(
        st.lists(st.integers(0, 29_999), max_size=8),
        st.slices(30_000),
    ),
)
@settings(max_examples=40)
def test_rows_are_picked_as_numpy_does(packed, codec, index):
    values, opened = packed
    index = index if isinstance(index, slice) else np.array(index, np.int64)
    same_bits(opened[codec][index], values[index])


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    values = bfloat16.widen(np.random.default_rng(3).integers(0, 0x7F80, (30_000, 40), np.uint16))
    opened = {}
    for codec in ("fast", "archive"):
        root = tmp_path_factory.mktemp(codec)
        record, _ = write(root, values, one_array("bfloat16", (40,), codec))
        opened[codec] = open_part(root, "events", record)["hit/x"]
    assert opened["archive"].shape == values.shape
    assert len(opened["fast"]) == len(values)
    return values, opened


def test_a_store_reads_parts_of_different_codecs_as_one(tmp_path):
    schema = SCHEMAS["tracking"]
    arrays = random_events(schema, 40, 5)
    snapshot.prepare_root(tmp_path)
    records = []
    for number, codec in enumerate(CODECS):
        packed = {name: spec.model_copy(update={"codec": codec}) for name, spec in schema.arrays.items()}
        piece = ragged.slice_events(arrays, schema, 10 * number, 10 * number + 10)
        changed = Schema(axes=schema.axes, arrays=packed)
        records.append(part.write_part(tmp_path, "events", f"{number:032x}" * 2, changed, piece))
    parts = Catalogue.of(entry({"events": record}) for record in records)
    made = Snapshot(name="d", event_schema=schema, split=Split(), parts=parts)
    snapshot.commit(tmp_path, lambda latest: made)
    store = EventStore(tmp_path)
    equal(store.range(0, 40), arrays)
    some = np.random.default_rng(0).integers(0, 40, 25)
    equal(store.events(some), ragged.take(arrays, schema, some))


def test_bfloat16_is_torchs_bit_by_bit():
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).float().numpy()
    same_bits(bfloat16.widen(bits), wide)
    same_bits(bfloat16.narrow(wide), bits)
    same_bits(bfloat16.widen(bits.reshape(256, 256)[:, ::2]), wide.reshape(256, 256)[:, ::2].copy())
    with pytest.raises(AssertionError, match="not rounded"):
        bfloat16.narrow(np.array([1.0, 0.1], np.float32))


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["zstd"], ["bytes", "zstd", "crc32c"]),
        ([{"name": "zstd", "configuration": {"level": 3}}, "crc32c"], ["bytes", "zstd", "crc32c"]),
        (["crc32c", "gzip"], ["bytes", "crc32c", "gzip", "crc32c"]),
        (["numcodecs.pcodec"], ["numcodecs.pcodec", "crc32c"]),
        ([{"name": "transpose", "configuration": {"order": [1, 0]}}], ["transpose", "bytes", "crc32c"]),
    ],
)
def test_codecs_are_filled_up_to_a_checked_chain(given, names):
    assert [step["name"] for step in codecs.parse(given)] == names
    assert codecs.parse(codecs.parse(given)) == codecs.parse(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("compct", "unknown preset 'compct'; did you mean 'compact'"),
        ([], "expected a preset"),
        (7, "expected a preset"),
        (["zstdd"], "no codec 'zstdd'"),
        ([{"name": "zstd", "configuration": {"levl": 3}}], "codec 'zstd': .*levl"),
        ([{"name": "zstd", "level": 3}], "is not of the form"),
        (["zstd", "bytes"], r"\[zstd, bytes\]: first come"),
        (["bytes", "numcodecs.pcodec"], "first come"),
    ],
)
def test_what_is_wrong_with_a_codec_is_said(given, message):
    with pytest.raises(ValueError, match=message) as error:
        codecs.parse(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "dtype", "message"),
    [
        ([{"name": "numcodecs.bitround", "configuration": {"keepbits": 4}}], "float32", "changes float32 values"),
        ([{"name": "numcodecs.delta", "configuration": {"dtype": "<f4"}}], "float32", "changes float32 values"),
        ([{"name": "numcodecs.bitround", "configuration": {"keepbits": 4}}], "int32", "cannot hold int32"),
        ([{"name": "transpose", "configuration": {"order": [2, 1, 0]}}], "float32", "cannot hold float32"),
    ],
)
def test_a_codec_that_does_not_keep_values_is_refused(given, dtype, message):
    with pytest.raises(ConfigError, match=f"codec of hit/x: .*{message}"):
        codecs.refuse_lossy("hit/x", codecs.parse(given), dtype, (4,))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("codec", [*CODECS, NUMCODECS], ids=label)
def test_a_codec_that_keeps_values_is_taken(codec, dtype):
    codecs.refuse_lossy("hit/x", codec, dtype, (3, 2))


def test_numcodecs_warn_plain_zarr_alone(tmp_path):
    values = random_values("float16", (500, 8))
    record, folder = write(tmp_path, values, one_array("float16", (8,), NUMCODECS))
    same_bits(np.asarray(open_part(tmp_path, "events", record)["hit/x"]), values)
    with pytest.warns(UserWarning, match="Numcodecs codecs are not in the Zarr version 3 specification"):
        same_bits(zarr.open_array(folder, mode="r")[...], values)


def test_a_codec_whose_package_is_not_there_says_what_to_install(monkeypatch):
    monkeypatch.delitem(numcodecs.registry.codec_registry, "bz2")
    monkeypatch.delitem(numcodecs.registry.entries, "bz2", raising=False)
    message = r"\[bytes, numcodecs.bz2, crc32c\] needs a package .*; run: pip install 'numcodecs\[bz2\]'$"
    with pytest.raises(ConfigError, match=message):
        codecs.refuse_lossy("hit/x", codecs.parse(["numcodecs.bz2"]), "float32", (3,))
