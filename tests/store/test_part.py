"""Parts: whole or not there, and never silently damaged."""

import shutil
import warnings

import numpy as np
import pytest
import zarr
from events_of_every_shape import SCHEMAS, equal, random_events
from hypothesis import given, settings
from hypothesis import strategies as st

from frz.errors import StoreError
from frz.store import part, snapshot
from frz.store.opened import open_part
from frz.store.part import PartRef


@given(kind=st.sampled_from(sorted(SCHEMAS)), n=st.integers(1, 20), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_what_is_written_is_read_by_us_and_by_zarr(tmp_path_factory, kind, n, seed):
    root = tmp_path_factory.mktemp("store")
    schema, arrays = SCHEMAS[kind], random_events(SCHEMAS[kind], n, seed)
    snapshot.prepare_root(root)
    record = part.write_part(root, "events", "ab" * 32, schema, arrays)
    opened = open_part(root, "events", record)
    equal({name: opened[name] for name in record.arrays}, arrays)
    for name in record.arrays:
        opened.check(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = zarr.open_group(root / "events.zarr", mode="r")
        assert len(list(tree.group_keys())) == 1
        group = tree[part.part_name("events", record.key)]
        for name, values in arrays.items():
            np.testing.assert_array_equal(group[name][...], values)
            assert group[name].metadata.dimension_names[0] is not None


@pytest.fixture
def written(tmp_path):
    schema, arrays = SCHEMAS["tracking"], random_events(SCHEMAS["tracking"], 9, 3)
    snapshot.prepare_root(tmp_path)
    return tmp_path, schema, arrays, part.write_part(tmp_path, "events", "cd" * 32, schema, arrays)


def test_the_second_writer_keeps_what_is_there(written):
    root, schema, arrays, record = written
    before = (root / "events.zarr" / part.part_name("events", record.key)).stat().st_ino
    assert part.write_part(root, "events", record.key, schema, arrays) == record
    assert (root / "events.zarr" / part.part_name("events", record.key)).stat().st_ino == before
    assert list((root / "tmp").iterdir()) == []


def test_other_content_under_the_same_key_is_refused(written):
    root, schema, arrays, record = written
    other = {**arrays, "hit/raw": arrays["hit/raw"] + 1}
    with pytest.raises(StoreError, match="other content"):
        part.write_part(root, "events", record.key, schema, other)


def test_other_codecs_are_read_through_zarr(written):
    root, _, arrays, record = written
    place = root / "events.zarr" / part.part_name("events", record.key)
    shutil.rmtree(place / "hit/raw")
    array = zarr.create_array(place / "hit/raw", shape=arrays["hit/raw"].shape, chunks=(4, 3), dtype="float32")
    array[...] = arrays["hit/raw"]
    files = {f"hit/raw/{p.relative_to(place / 'hit/raw')}": p for p in (place / "hit/raw").rglob("*") if p.is_file()}
    compressed = record.arrays["hit/raw"].model_copy(
        update={"codec": "zstd", "files": {name: (p.stat().st_size, part.shard.crc32c(p)) for name, p in files.items()}}
    )
    opened = open_part(root, "events", record)
    opened.record = record.model_copy(update={"arrays": {**record.arrays, "hit/raw": compressed}})
    np.testing.assert_array_equal(opened["hit/raw"], arrays["hit/raw"])


@pytest.mark.parametrize("damage", ["truncated", "deleted", "longer"])
def test_a_file_of_another_size_is_an_error_and_never_a_crash_or_zeros(written, damage):
    root, _, _, record = written
    path = root / "events.zarr" / part.part_name("events", record.key) / "hit/raw/c/0/0"
    raw = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(raw[: len(raw) // 2] if damage == "truncated" else raw + b"0")
    with pytest.raises(StoreError, match="hit/raw/c/0/0.*(missing|bytes)"):
        open_part(root, "events", record)["hit/raw"]


def test_a_flipped_bit_is_found_where_the_checksum_is_asked_for(written):
    root, _, _, record = written
    path = root / "events.zarr" / part.part_name("events", record.key) / "member/hit/c/0"
    raw = bytearray(path.read_bytes())
    raw[3] ^= 4
    path.write_bytes(raw)
    opened = open_part(root, "events", record)
    opened.check("hit/raw")
    with pytest.raises(
        StoreError, match="member/hit/c/0: array 'member/hit': the checksum does not fit; run 'frz repair"
    ):
        opened.check("member/hit")


def test_a_snapshot_that_expects_other_content_is_an_error(written):
    root, _, _, record = written
    with pytest.raises(StoreError, match="digest"):
        open_part(root, "events", PartRef(record.key, "0" * 64))


@pytest.mark.parametrize("text", ["", "{", '{"attributes": {}}', '{"attributes": {"frz": {"format": 1}}}'])
def test_a_damaged_commit_record_is_named(written, text):
    root, _, _, record = written
    place = root / "events.zarr" / part.part_name("events", record.key)
    (place / "zarr.json").write_text(text)
    with pytest.raises(StoreError, match="damaged commit record"):
        part.read_record(place)
