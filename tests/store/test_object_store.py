"""The primitives on an object store: created once, whole or not there, by whoever is first."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from events_of_every_shape import SCHEMAS, equal, random_events

from frz.artifacts import versions
from frz.errors import DamageError, StoreError, TrainingError
from frz.location import filesystem, location
from frz.store import EventStore, atomic, objects, snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.gc import collect
from frz.store.lease import Leases
from frz.store.opened import open_part
from frz.store.part import committed, find_part, part_name, write_part
from frz.store.repair import repair
from frz.store.snapshot import Snapshot
from frz.store.split import Split
from frz.store.verify import verify
from frz.training.lock import only_writer

SCHEMA = SCHEMAS["tracking"]
SMALL = SCHEMA.select(["event/id", "event/group"])


@pytest.fixture
def root(bucket):
    """An empty store."""
    place = location(f"{bucket}/store")
    snapshot.prepare_root(place)
    return place


def version_of(*records, schema=SCHEMA):
    catalogue = Catalogue.of(entry({"events": record}) for record in records)
    return Snapshot(name="s", event_schema=schema, split=Split(), parts=catalogue)


def key_of(number):
    return f"{number:032x}" * 2


def write(root, number, seed=1, schema=SCHEMA):
    return write_part(root, "events", key_of(number), schema, random_events(schema, 7, seed))


def test_of_many_at_once_one_creates(root):
    place = root / "snapshots" / "1.json"
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: objects.put_if_absent(place, str(n).encode()), range(16)))
    assert made.count(True) == 1
    assert int(place.read_bytes()) == made.index(True)


def test_a_request_that_is_repeated_after_a_lost_answer_has_created(root):
    place = root / "a"
    filesystem(place)[0].pipe_file(filesystem(place)[1], b"ours")
    assert objects.put_if_absent(place, b"ours")
    assert not objects.put_if_absent(place, b"others'")


def test_a_server_without_put_if_absent_is_refused(bucket):
    place = location(bucket.replace("s3://", "s3://lax-")) / "store"
    fs, name = filesystem(place)
    fs.mkdir(name.partition("/")[0])
    with pytest.raises(StoreError, match="overwrites where it should create.*If-None-Match"):
        snapshot.prepare_root(place)
    assert objects.sizes(place) == {}


@pytest.fixture
def requests(root, monkeypatch):
    """Every request to the object store from here on, by kind."""
    fs, _ = filesystem(root)
    ask, asked = type(fs)._call_s3, []

    async def counted(self, method, *arguments, **options):
        asked.append(method)
        return await ask(self, method, *arguments, **options)

    monkeypatch.setattr(type(fs), "_call_s3", counted)
    return asked


def test_nothing_is_asked_twice(root, requests):
    record = write(root, 1, schema=SMALL)
    place = root / "events.zarr" / part_name("events", record.key)
    requests.clear()
    assert find_part(root, "events", record.key) == record
    assert find_part(root, "events", key_of(2)) is None
    assert requests == ["get_object"] * 2
    requests.clear()
    open_part(root, "events", record).load(["event/id", "event/group"])
    assert requests == ["get_object"] * 3
    requests.clear()
    n_bytes, changed = objects.measure(place)  # however many objects there are
    assert n_bytes > 0
    assert changed > 0
    assert requests == ["list_objects_v2"]
    leases = Leases(root)
    assert leases.take("one")
    requests.clear()
    leases.release("one")
    assert requests == ["get_object", "delete_object"]


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_parts_are_read_by_us_and_by_zarr(root, kind):
    import zarr

    arrays = random_events(SCHEMAS[kind], 9, 3)
    record = write_part(root, "events", "ab" * 32, SCHEMAS[kind], arrays)
    assert record.attempt
    equal(open_part(root, "events", record).load(arrays), arrays)
    url = f"{root}/events.zarr/{part_name('events', record.key)}/{record.attempt}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(url, mode="r")
        for name, values in arrays.items():
            np.testing.assert_array_equal(group[name][...], values)
    assert committed(root) == {part_name("events", record.key)}


@pytest.mark.parametrize("codec", ["compact", "archive"])
def test_packed_arrays_are_read_too(root, codec):
    packed = SCHEMA.model_copy(
        update={"arrays": {n: spec.model_copy(update={"codec": codec}) for n, spec in SCHEMA.arrays.items()}}
    )
    arrays = random_events(SCHEMA, 9, 3)
    record = write_part(root, "events", "cd" * 32, packed, arrays)
    found = open_part(root, "events", record).load(arrays)
    equal({name: np.asarray(values) for name, values in found.items()}, arrays)


def test_of_two_attempts_the_first_to_commit_counts_and_gc_takes_the_other(root, monkeypatch):
    real = objects.put_if_absent

    def overtaken(path, data):
        monkeypatch.setattr(objects, "put_if_absent", real)
        first.append(write(root, 1))
        return real(path, data)

    first = []
    monkeypatch.setattr(objects, "put_if_absent", overtaken)
    second = write(root, 1)
    assert second == first[0]
    place = root / "events.zarr" / part_name("events", second.key)
    assert len([path for path in place.iterdir() if path.is_dir()]) == 2
    snapshot.commit(root, lambda latest: version_of(second))
    assert [item.what for item in collect(root).garbage] == []
    [lost] = collect(root, grace=-60, delete=True).garbage
    assert lost.what == "attempt"
    assert [path.name for path in place.iterdir() if path.is_dir()] == [second.attempt]
    assert not verify(root, content=True).damages


def test_other_content_under_the_same_key_is_refused(root):
    write(root, 1)
    with pytest.raises(StoreError, match="other content"):
        write(root, 1, seed=2)


def test_a_part_without_its_record_does_not_exist(root, monkeypatch):
    def killed(path, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(objects, "put_if_absent", killed)
        with pytest.raises(KeyboardInterrupt):
            write(root, 1)
    assert any(name.endswith("/c/0") for name in objects.sizes(root))
    assert find_part(root, "events", key_of(1)) is None
    assert committed(root) == set()
    assert write(root, 1).n_events == 7


def test_gc_removes_parts_that_no_version_names(root):
    kept, lost = write(root, 1), write(root, 2)
    snapshot.commit(root, lambda latest: version_of(kept))
    assert [item.what for item in collect(root, grace=-60, delete=True).garbage] == ["part"]
    assert find_part(root, "events", lost.key) is None
    assert committed(root) == {part_name("events", kept.key)}
    assert not any(part_name("events", lost.key) in name for name in objects.sizes(root))


def test_events_come_from_few_parts_at_a_time(root, monkeypatch):
    from frz.store import reader

    records = [write(root, n, seed=n) for n in range(6)]
    snapshot.commit(root, lambda latest: version_of(*records))
    monkeypatch.setattr(reader, "MEMORY", 1)
    store = EventStore(str(root))
    assert store.n_events == 42
    whole = [part["event/id"] for part in store.parts(["event/id"])]
    np.testing.assert_array_equal(store.events([40, 0, 40, 21])["event/id"], np.concatenate(whole)[[40, 0, 40, 21]])
    assert store._stored.cache_info().currsize == 2


@pytest.mark.parametrize(("damage", "what"), [("deleted", "is missing"), ("cut", "bytes"), ("flipped", "checksum")])
def test_damage_is_an_error_and_never_zeros(root, damage, what):
    record = write(root, 1)
    snapshot.commit(root, lambda latest: version_of(record))
    path = root / "events.zarr" / part_name("events", record.key) / record.attempt / "hit/raw/c/0/0"
    raw = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        objects.put(path, raw[:-1] if damage == "cut" else bytes([raw[0] ^ 1]) + raw[1:])
    with pytest.raises(DamageError, match=f"hit/raw/c/0/0.*{what}"):
        EventStore(root, verify=True).array("hit/raw")
    report = verify(root)
    assert [(found.thing, found.array) for found in report.damages] == [("shard", "hit/raw")]
    assert str(root / report.damages[0].path) == str(path)
    [outcome], added = repair(root, report, lambda lost: random_events(SCHEMA, 7, 1))
    assert outcome.repaired
    assert outcome.same
    assert added is None
    assert not verify(root, content=True).damages
    equal(open_part(root, "events", record).load(["hit/raw"]), {"hit/raw": random_events(SCHEMA, 7, 1)["hit/raw"]})


@pytest.mark.parametrize("damage", ["commit record", "snapshot", "array metadata", "static array"])
def test_what_the_rest_of_the_store_tells_is_mended_without_making_values_again(root, damage):
    record = write(root, 1)
    digest = snapshot.write_static(root, "geometry", np.arange(12.0))
    made = version_of(record).model_copy(update={"static": {"geometry": digest}})
    snapshot.commit(root, lambda latest: made)
    part = root / "events.zarr" / part_name("events", record.key)
    path = {
        "commit record": part / "zarr.json",
        "snapshot": snapshot.snapshot_path(root, 1),
        "array metadata": part / record.attempt / "hit/raw/zarr.json",
        "static array": snapshot.static_path(root, "geometry", digest) / "zarr.json",
    }[damage]
    objects.put(path, b"{}")
    outcomes, added = repair(root, verify(root), static=lambda name, digest: np.arange(12.0))
    assert all(outcome.repaired for outcome in outcomes), outcomes
    assert outcomes
    assert added is None
    assert not verify(root, content=True).damages


def test_a_part_that_came_out_other_is_set_aside_and_a_version_points_at_the_new_one(root):
    record = write(root, 1)
    snapshot.commit(root, lambda latest: version_of(record))
    path = root / "events.zarr" / part_name("events", record.key) / record.attempt / "hit/raw/c/0/0"
    path.unlink()
    _, added = repair(root, verify(root), lambda lost: random_events(SCHEMA, 7, 2))
    assert added.version == 2
    assert any("damaged/" in name for name in objects.sizes(root))
    assert not verify(root, 2).damages
    np.testing.assert_array_equal(EventStore(root).array("event/id"), random_events(SCHEMA, 7, 2)["event/id"])


def test_static_arrays_are_kept_once(root):
    values = np.arange(12.0).reshape(3, 4)
    digest = snapshot.write_static(root, "geometry", values)
    assert snapshot.write_static(root, "geometry", values) == digest
    np.testing.assert_array_equal(snapshot.read_static(root, "geometry", digest), values)


def test_files_of_a_run(root):
    path = root / "run" / "metrics.jsonl"
    atomic.append_line(path, "one")
    atomic.append_line(path, "two\n")
    assert path.read_text() == "one\ntwo\n"
    atomic.write_json(root / "run" / "card.json", {"n": 1})
    assert (root / "run" / "card.json").read_text() == '{\n "n": 1\n}\n'


def test_leases_are_taken_by_one_renewed_and_given_back(root):
    mine, other = Leases(root), Leases(root)
    assert mine.take("a")
    assert not other.take("a")
    before = (root / "leases" / "a.json").read_bytes()
    mine.beat()
    assert (root / "leases" / "a.json").read_bytes() != before
    other.release("a")
    assert not mine.lost("a")
    mine.release("a")
    assert other.take("a")
    mine.beat()
    assert mine.lost("a")


def test_one_process_trains_in_a_run(root):
    second = only_writer(root / "run")
    with only_writer(root / "run"), pytest.raises(TrainingError, match="being trained already"):
        second.__enter__()
    with only_writer(root / "run"):
        assert (root / "run" / "leases" / "gc.json").exists()
    assert objects.sizes(root / "run") == {}


COMMITS = """
import sys
sys.path[:0] = sys.argv[3].split(":")
from test_object_store import SMALL, write, version_of
from frz.location import location
from frz.store import snapshot
from frz.store.catalogue import Catalogue
root, first = location(sys.argv[1]), int(sys.argv[2])
for number in range(first, first + 50):
    record = write(root, number, seed=number, schema=SMALL)
    def make(latest):
        made = version_of(record, schema=SMALL)
        return made if latest is None else made.model_copy(update={"parts": Catalogue.of([*latest.parts, *made.parts])})
    snapshot.commit(root, make)
"""


def test_two_processes_commit_100_times_and_nothing_is_lost(root):
    paths = ":".join(sys.path)
    command = [sys.executable, "-c", COMMITS, str(root)]
    workers = [
        subprocess.Popen([*command, first, paths], stderr=subprocess.PIPE, text=True) for first in ("1000", "2000")
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors
    assert versions(root) == list(range(1, 101))
    held = [snapshot.read(root, version).parts.groups["events"].key for version in (25, 75, 100)]
    assert held[0] == held[1][:25]
    assert held[1] == held[2][:75]
    assert sorted(held[2]) == [key_of(n) for n in (*range(1000, 1050), *range(2000, 2050))]
    assert {part_name("events", key) for key in held[2]} == committed(root) - {"zarr.json"}
    assert not verify(root, 100).damages
