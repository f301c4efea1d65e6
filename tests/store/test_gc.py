"""What goes, what stays, and that nothing goes from under a worker."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from events_of_every_shape import SCHEMAS, random_events

from frz.errors import DamageError, StoreError
from frz.store import atomic, gc, snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.lease import Leases
from frz.store.part import write_part
from frz.store.process import Process
from frz.store.reader import EventStore
from frz.store.snapshot import Snapshot
from frz.store.split import Split
from frz.store.verify import verify

SCHEMA = SCHEMAS["views"]
DAY = 24 * 3600.0

WORKER = """
import os, sys
from pathlib import Path
from frz.store import snapshot
from frz.store.lease import Leases
root, folder = Path(sys.argv[1]), sys.argv[2]
sys.path.insert(0, folder)
from test_gc import commit, write
with Leases(root).hold():
    written = []
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "commit\\n":
            commit(root, written)
        elif line == "stop\\n":
            break
        else:
            written.append(write(root, int(line)))
        print("ready", flush=True)
"""


def write(root, number):
    """Commit part `number`, of three events."""
    arrays = random_events(SCHEMA, 3, number, 3 * number)
    return entry({"events": write_part(root, "events", f"{number:032x}" * 2, SCHEMA, arrays)})


def commit(root, entries, static=None):
    statics = {} if static is None else {"map": static}
    made = Snapshot(name="d", event_schema=SCHEMA, split=Split(), parts=Catalogue.of(entries), static=statics)
    return snapshot.commit(root, lambda latest: made)


def parts(root):
    return [int(path.name.partition("-")[2], 16) for path in sorted((root / "events.zarr").glob("events-*"))]


def contents(root):
    """The files of each part and static array."""
    folders = [*(root / "events.zarr").glob("*-*"), *(root / "static.zarr").glob("*-*")]
    return {path.name: tuple(sorted(str(file) for file in path.rglob("*"))) for path in folders}


def found(report):
    return sorted((item.what, item.path.name) for item in report.garbage)


@pytest.fixture
def root(tmp_path):
    """Version 1 of parts 0 and 1, version 2 of parts 1 and 2, and part 3, which no version names."""
    store = tmp_path / "store"
    snapshot.prepare_root(store)
    entries = [write(store, number) for number in range(4)]
    static = [snapshot.write_static(store, "map", random_events(SCHEMA, 2, seed)["token/embedding"]) for seed in (1, 2)]
    commit(store, entries[:2], static[0])
    commit(store, entries[1:3], static[1])
    return store


@pytest.fixture
def worker(root):
    """Another process at work on the store; `worker(line)` has it write a part, commit a version or stop."""
    command = [sys.executable, "-c", WORKER, str(root), os.path.dirname(__file__)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(line):
        child.stdin.write(f"{line}\n")
        child.stdin.flush()
        return child.stdout.readline()

    ask.child = child
    with child:
        assert child.stdout.readline() == "ready\n"
        yield ask
        child.kill()


def test_nothing_is_changed_unless_asked_to(root):
    before = {path: path.stat().st_mtime for path in root.rglob("*")}
    report = gc.collect(root, grace=0, drop=[1])
    assert [what for what, _ in found(report)] == ["part", "part", "snapshot", "snapshot", "static"]
    assert {path: path.stat().st_mtime for path in root.rglob("*")} == before


def test_a_part_that_no_version_names_goes_when_it_is_old(root):
    assert gc.collect(root, delete=True).garbage == []
    assert gc.collect(root, now=time.time() + DAY - 60).garbage == []
    (item,) = gc.collect(root, now=time.time() + DAY, delete=True).garbage
    assert (item.what, item.path.name) == ("part", f"events-{3:032x}")
    assert item.bytes > 1000
    assert parts(root) == [0, 1, 2]
    assert list((root / "tmp").iterdir()) == []
    assert verify(root).damages == []


def test_one_file_that_is_new_makes_a_part_new(root):
    part = root / "events.zarr" / f"events-{3:032x}"
    written = max(path.stat().st_ctime for path in (part, *part.rglob("*")))
    assert len(gc.collect(root, grace=0, now=written).garbage) == 1
    file = part / "event" / "id" / "zarr.json"
    while file.stat().st_ctime <= written:  # file systems count in steps of some milliseconds
        os.utime(file, (0, 0))  # looks old, as after a copy that keeps times
    assert gc.collect(root, grace=0, now=written).garbage == []


def test_what_was_derived_from_a_version_goes_with_it(root):
    for number, features in enumerate([EventStore(root, 1).snapshot.hash, EventStore(root, 2).snapshot.hash, "gone"]):
        place = root / "derived" / f"{number}"
        snapshot.prepare_root(place)
        about = {"features": features}
        made = Snapshot(
            name="d", event_schema=SCHEMA, split=Split(), parts=Catalogue.of([write(place, number)]), about=about
        )
        snapshot.commit(place, lambda latest, made=made: made)
    snapshot.prepare_root(root / "derived" / "unfinished")

    def derived(report):
        return [path for what, path in found(report) if what == "derived"]

    assert derived(gc.collect(root)) == []
    (root / "derived/unfinished/leases").mkdir()
    lease = root / "derived/unfinished/leases/0.json"
    lease.write_text(json.dumps({"process": Process.this(), "token": "b", "beat": 0}))
    assert derived(gc.collect(root, grace=0)) == ["2"]  # somebody is making the other one
    lease.unlink()
    assert derived(gc.collect(root, grace=0)) == ["2", "unfinished"]
    assert derived(gc.collect(root, grace=0, drop=[1], delete=True)) == ["0", "2", "unfinished"]
    assert [path.name for path in (root / "derived").iterdir()] == ["1"]
    assert EventStore(root / "derived" / "1").n_events == 3


def test_a_dropped_version_goes_with_what_it_alone_names(root):
    expected = EventStore(root).array("event/id").tolist()
    report = gc.collect(root, grace=0, drop=[1], delete=True)
    assert [what for what, _ in found(report)] == ["part", "part", "snapshot", "snapshot", "static"]
    assert parts(root) == [1, 2]
    assert len(list((root / "static.zarr").iterdir())) == 1
    assert snapshot.versions(root) == [2]
    assert EventStore(root).array("event/id").tolist() == expected
    assert verify(root).damages == []
    with pytest.raises(StoreError, match="no version 1"):
        snapshot.read(root, 1)
    assert commit(root, [write(root, 4)]).version == 3
    assert gc.collect(root, grace=0, drop=[2], delete=True).garbage != []
    assert snapshot.versions(root) == [3]
    assert commit(root, [write(root, 5)]).version == 4


def test_a_version_that_is_needed_is_not_dropped(root):
    with pytest.raises(StoreError, match="newest version is not dropped"):
        gc.collect(root, drop=[2], delete=True)
    with pytest.raises(StoreError, match="heads/a@1 refer to it; remove these first"):
        gc.collect(root, drop=[1], referred={1: ["heads/a@1"]}, delete=True)
    with pytest.raises(StoreError, match=r"no such version; versions: 1, 2"):
        gc.collect(root, drop=[3], delete=True)
    gc.collect(root, drop=[1], grace=0, delete=True)
    with pytest.raises(StoreError, match=r"no such version; versions: 2"):
        gc.collect(root, drop=[3], delete=True)


def test_a_drop_that_was_broken_off_goes_on(root):
    gc.collect(root, drop=[1], delete=True)  # the version is dropped, but what it names is young and stays
    found_later = gc.collect(root, drop=[1], grace=0, delete=True)
    assert [what for what, _ in found(found_later)] == ["part", "part", "static"]
    assert verify(root).damages == []


def test_nothing_goes_while_a_version_cannot_be_read(root):
    (root / "snapshots" / "1.json").write_text("{")
    with pytest.raises(DamageError, match="the snapshot is damaged"):
        gc.collect(root, grace=0, delete=True)
    for folder in ("snapshots", "copies"):
        (root / folder / "1.json").unlink()
    with pytest.raises(DamageError, match="the snapshot is missing"):
        gc.collect(root, grace=0, delete=True)
    assert parts(root) == [0, 1, 2, 3]
    assert {damage.thing for damage in verify(root).damages} >= {"snapshot"}
    gc.collect(root, grace=0, drop=[1], delete=True)  # given up on purpose
    assert verify(root).damages == []


@pytest.mark.parametrize("moment", [1, *range(3, 12), 20, 40])
def test_a_removal_that_is_broken_off_leaves_a_whole_store_and_goes_on(root, moment):
    code = f"""
import os, signal, sys
from pathlib import Path
from frz.store import atomic, gc
calls = 0
def deadly(real):
    def call(*args, **options):
        global calls
        calls += 1
        if calls == {moment}:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    return call
os.rename, os.unlink, os.rmdir = deadly(os.rename), deadly(os.unlink), deadly(os.rmdir)
atomic.create, atomic.remove = deadly(atomic.create), deadly(atomic.remove)
gc.collect(Path({str(root)!r}), grace=0, drop=[1], delete=True)
"""
    before = contents(root)
    died = subprocess.run([sys.executable, "-c", code], check=False)
    assert died.returncode == -signal.SIGKILL
    assert contents(root).items() <= before.items()  # what is still there is whole
    versions = snapshot.versions(root)
    assert 2 in versions
    assert verify(root).damages == []
    gc.collect(root, grace=0, drop=[1] if 1 in versions else [], delete=True)
    assert verify(root).damages == []
    assert (snapshot.versions(root), parts(root)) == ([2], [1, 2])
    for folder in ("tmp", "leases"):
        assert list((root / folder).iterdir()) == []
    assert sorted(path.name for path in (root / "snapshots").iterdir()) == ["1.dropped", "2.json"]
    assert [path.name for path in (root / "copies").iterdir()] == ["2.json"]


def test_what_the_dead_left_goes_at_once_and_what_may_be_needed_when_it_is_old(root):
    tmp, dead = root / "tmp", Process.this()._replace(start="1")
    ours, theirs = "+".join(map(str, (*dead, 0))), "+".join(map(str, (*dead._replace(host="elsewhere"), 0)))
    for name in (ours, theirs, "unheard-of"):
        (tmp / name).mkdir()
        (tmp / name / "file").write_bytes(bytes(100))
    running = atomic.scratch(tmp)
    running.mkdir()
    (root / "leases").mkdir()
    (root / "leases" / "a.json").write_text(json.dumps({"process": dead, "token": "b", "beat": 0}))
    (root / "damaged" / "events-1").mkdir(parents=True)
    report = gc.collect(root, delete=True)
    assert found(report) == [("lease", "a.json"), ("temporary", ours)]
    assert {item.what: item.bytes for item in report.garbage}["temporary"] == 100
    assert list((root / "leases").iterdir()) == []
    assert sorted(tmp.iterdir()) == sorted([tmp / theirs, tmp / "unheard-of", running])
    report = gc.collect(root, now=time.time() + DAY, delete=True)
    assert [what for what, _ in found(report)] == ["damaged", "part", "temporary", "temporary"]
    assert list((root / "damaged").iterdir()) == []
    assert list(tmp.iterdir()) == [running]


def test_beside_a_worker_nothing_that_is_committed_goes(root, worker):
    for number in (10, 11, 12):
        worker(number)
        report = gc.collect(root, grace=0, delete=True)
        assert report.garbage == []
        assert report.live == [f"process {worker.child.pid} of {Process.this().host}"]
        assert number in parts(root)
    with pytest.raises(StoreError, match=f"process {worker.child.pid} of .* works on the store"):
        gc.collect(root, drop=[1], delete=True)
    worker("commit")
    worker("stop")
    assert worker.child.wait() == 0
    assert found(gc.collect(root, grace=0, delete=True)) == [("part", f"events-{3:032x}")]
    assert parts(root) == [0, 1, 2, 10, 11, 12]
    assert verify(root).damages == []


def test_after_a_killed_worker_all_that_it_left_goes(root, worker):
    worker(10)
    worker.child.kill()
    worker.child.wait()
    report = gc.collect(root, grace=0, delete=True)
    assert [what for what, _ in found(report)] == ["lease", "part", "part"]
    assert parts(root) == [0, 1, 2]
    assert list((root / "leases").iterdir()) == []


def test_two_at_once_do_not_meet(root):
    with Leases(root).alone():
        report = gc.collect(root, grace=0, delete=True)
    assert (report.garbage, len(report.live)) == ([], 1)
    assert parts(root) == [0, 1, 2, 3]
