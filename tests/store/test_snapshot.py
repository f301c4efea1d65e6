"""Snapshots: exclusive, ordered, and nothing of another process's work lost."""

import json
import subprocess
import sys

import numpy as np
import pytest
from events_of_every_shape import SCHEMAS, random_events

from frz.artifacts import versions
from frz.errors import StoreError
from frz.store import part, snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.snapshot import Snapshot
from frz.store.split import Split


def made_of(root, n_parts, schema=SCHEMAS["image"]):
    snapshot.prepare_root(root)
    entries = []
    for i in range(n_parts):
        record = part.write_part(root, "events", f"{i:032x}" * 2, schema, random_events(schema, 3, i, 3 * i))
        entries.append(entry({"events": record}))
    return Snapshot(name="d", event_schema=schema, split=Split(), parts=Catalogue.of(entries))


def test_versions_count_up_and_equal_content_makes_none(tmp_path):
    first = made_of(tmp_path, 2)
    assert snapshot.read(tmp_path) is None
    assert snapshot.commit(tmp_path, lambda latest: first).version == 1
    assert snapshot.commit(tmp_path, lambda latest: first).version == 1
    second = first.model_copy(update={"parts": Catalogue.of([first.parts[0]])})
    assert snapshot.commit(tmp_path, lambda latest: second).version == 2
    assert versions(tmp_path) == [1, 2]
    assert snapshot.read(tmp_path, 1).parts == first.parts
    copy = snapshot.copy_path(tmp_path, 2)
    text = copy.read_bytes()
    copy.unlink()  # as if killed between the two
    assert snapshot.commit(tmp_path, lambda latest: second).version == 2
    assert copy.read_bytes() == text


def test_hash_covers_content_and_not_provenance(tmp_path):
    made = made_of(tmp_path, 1)
    assert made.model_copy(update={"about": {"a": 1}, "created": "x"}).content_hash() == made.content_hash()
    assert made.model_copy(update={"split": Split(seed=1)}).content_hash() != made.content_hash()
    assert made.model_copy(update={"parts": Catalogue()}).content_hash() != made.content_hash()


@pytest.mark.parametrize("damage", ["{", "bit"])
def test_a_damaged_snapshot_is_named(tmp_path, damage):
    made = made_of(tmp_path, 2)
    snapshot.commit(tmp_path, lambda latest: made)
    path = tmp_path / "snapshots/1.json"
    if damage == "bit":
        value = json.loads(path.read_text())
        value["about"] = {"source": "another"}  # not in the hash, but in the checksum
        path.write_text(json.dumps(value))
    else:
        path.write_text(damage)
    with pytest.raises(StoreError, match="the snapshot is damaged"):
        snapshot.read(tmp_path)


def test_a_version_that_does_not_exist_lists_those_that_do(tmp_path):
    made = made_of(tmp_path, 1)
    snapshot.commit(tmp_path, lambda latest: made)
    with pytest.raises(StoreError, match=r"no version 7; versions: 1$"):
        snapshot.read(tmp_path, 7)


COMMITTER = """
import sys
from pathlib import Path
from frz.store import snapshot
root, who = Path(sys.argv[1]), sys.argv[2]
base = snapshot.read(root, 1)
for i in range(50):
    def make(latest):
        about = dict(latest.static)
        about[f"{who}-{i}"] = "x"
        return latest.model_copy(update={"static": about})
    snapshot.commit(root, make)
"""


def test_two_processes_commit_100_times_and_nothing_is_lost(tmp_path):
    made = made_of(tmp_path, 1)
    snapshot.commit(tmp_path, lambda latest: made)
    writers = [subprocess.Popen([sys.executable, "-c", COMMITTER, str(tmp_path), who]) for who in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert versions(tmp_path) == list(range(1, 102))
    last = snapshot.read(tmp_path)
    assert set(last.static) == {f"{who}-{i}" for who in "ab" for i in range(50)}
    seen = [set(snapshot.read(tmp_path, n).static) for n in versions(tmp_path)]
    assert all(len(after - before) == 1 and before < after for before, after in zip(seen, seen[1:], strict=False))


def test_static_arrays_are_kept_by_content_and_checked(tmp_path):
    snapshot.prepare_root(tmp_path)
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    digest = snapshot.write_static(tmp_path, "geometry", values)
    assert snapshot.write_static(tmp_path, "geometry", values.copy()) == digest
    np.testing.assert_array_equal(snapshot.read_static(tmp_path, "geometry", digest), values)
    file = next((tmp_path / "static.zarr").rglob("c/0/0"))
    raw = bytearray(file.read_bytes())
    raw[0] ^= 1
    file.write_bytes(raw)
    with pytest.raises(StoreError, match="geometry.*damaged"):
        snapshot.read_static(tmp_path, "geometry", digest)
