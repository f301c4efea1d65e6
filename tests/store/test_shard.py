"""Our shards are zarr's shards: the same bytes, readable both ways."""

import warnings

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frz.store import shard

DTYPES = ["bool", "uint8", "int16", "int32", "int64", "uint16", "float16", "float32", "float64"]


def by_zarr(folder, values, names):
    k, inner = shard.geometry(len(values), shard.row_bytes(values))
    array = zarr.create_array(
        folder,
        shape=values.shape,
        shards=(k * inner, *values.shape[1:]),
        chunks=(inner, *values.shape[1:]),
        dtype=values.dtype,
        compressors=None,
        filters=None,
        fill_value=0,
        dimension_names=names,
        config={"write_empty_chunks": True},
    )
    array[...] = values


@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.sampled_from([(1,), (7,), (70_000,), (3000, 100), (5, 4760, 2), (1, 1), (40_000, 3, 2)]),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shard_is_byte_identical_to_zarrs(tmp_path_factory, dtype, shape, seed):
    folder = tmp_path_factory.mktemp("shard")
    values = np.random.default_rng(seed).integers(0, 2, shape).astype(dtype)
    names = [f"d{i}" for i in range(len(shape))]
    shard.write(folder / "ours", values, names, {})
    by_zarr(folder / "theirs", values, names)
    file = "c/" + "/".join("0" * len(shape))
    assert (folder / "ours" / file).read_bytes() == (folder / "theirs" / file).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = zarr.open_array(folder / "ours", mode="r")
    assert read.metadata.to_dict() == zarr.open_array(folder / "theirs", mode="r").metadata.to_dict()
    np.testing.assert_array_equal(read[...], values)
    mapped = shard.map_shard(folder / "ours" / file, dtype, shape)
    np.testing.assert_array_equal(mapped, values)
    assert not mapped.flags.writeable


def test_no_members_write_no_shard(tmp_path):
    shard.write(tmp_path / "empty", np.empty((0, 3), np.float32), ["hit", "column"], {})
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["zarr.json"]
    assert zarr.open_array(tmp_path / "empty", mode="r").shape == (0, 3)


@given(n=st.integers(1, 10**7), row_bytes=st.sampled_from([1, 2, 76, 4096, 10**6, 3 * 10**6]))
def test_geometry_covers_all_rows_and_wastes_less_than_one_chunk(n, row_bytes):
    k, inner = shard.geometry(n, row_bytes)
    assert (k - 1) * inner < n <= k * inner
    assert inner == 1 or inner * row_bytes <= shard.CHUNK_BYTES


@pytest.mark.parametrize("damage", ["index", "length", "compressed"])
def test_another_layout_is_not_mapped(tmp_path, damage):
    values = np.arange(30, dtype=np.int32)
    shard.write(tmp_path / "a", values, ["hit"], {})
    path = tmp_path / "a/c/0"
    raw = bytearray(path.read_bytes())
    if damage == "index":
        raw[-10] ^= 1
    elif damage == "length":
        raw = raw[:-1]
    else:
        raw = raw[:8] + raw
    path.write_bytes(raw)
    assert shard.map_shard(path, "int32", (30,)) is None


def test_crc32c_of_the_standard_check_string(tmp_path):
    (tmp_path / "check").write_bytes(b"123456789")
    assert shard.crc32c(tmp_path / "check") == 0xE3069283
