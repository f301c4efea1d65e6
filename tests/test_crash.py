"""kill -9, Ctrl-C, a stopped process and a full disk: the same command then ends in the same content."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial

import psutil
import pytest

from benchmarks import kills
from conftest import tiny_recipe
from frz import artifacts as names
from frz.data.build import build
from frz.errors import StoreError
from frz.extract import run
from frz.extract.run import extract
from frz.store import EventStore, shard, snapshot
from frz.store.lease import Leases
from frz.store.verify import verify

FP32 = {"dtype": "float32"}

DIE = """
import os, signal, sys
from pathlib import Path
from frz.store import atomic
what, moment, number, artifacts = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
sys.path.insert(0, sys.argv[5])
real, calls = {"move": atomic.move_folder, "create": atomic.create}, {"move": 0, "create": 0}

def deadly(kind):
    def call(*args):
        calls[kind] += kind == "move" or args[0].parent.name == "snapshots"
        last = calls[kind] == number and kind == ("create" if moment == "snapshot" else "move")
        if last and moment != "after":
            os.kill(os.getpid(), int(sys.argv[6]))
        result = real[kind](*args)
        if last:
            os.kill(os.getpid(), int(sys.argv[6]))
        return result
    return call

atomic.move_folder, atomic.create = deadly("move"), deadly("create")
from conftest import tiny_recipe
if what == "build":
    from frz.data.build import build
    build(tiny_recipe(), artifacts)
else:
    from frz.extract.run import extract
    extract("tiny", artifacts, settings={"dtype": "float32"})
"""


def die(fresh_python, what, moment, number, artifacts, how=signal.SIGKILL):
    here = os.path.dirname(__file__)
    return fresh_python("-c", DIE, what, moment, str(number), str(artifacts), here, str(int(how)))


MOMENTS = [("before", 3), ("after", 3), ("snapshot", 1)]


@pytest.mark.parametrize(("moment", "number"), MOMENTS)
def test_a_killed_build_goes_on_to_the_same_content(fresh_python, tiny, tmp_path, moment, number):
    died = die(fresh_python, "build", moment, number, tmp_path)
    assert died.returncode == -signal.SIGKILL, died.stderr
    root = tmp_path / "datasets/tiny"
    assert names.versions(root) == []
    build(tiny_recipe(), tmp_path)
    assert snapshot.read(root).hash == snapshot.read(tiny / "datasets/tiny").hash
    assert list((root / "tmp").iterdir()) == []


@pytest.mark.parametrize(("moment", "number"), MOMENTS)
def test_a_killed_extraction_goes_on_to_the_same_content(fresh_python, tiny, tmp_path, moment, number):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    root = names.features("tiny", artifacts).path
    expected = snapshot.read(root).hash
    shutil.rmtree(root)
    died = die(fresh_python, "extract", moment, number, artifacts)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert names.versions(root) == []
    result = extract("tiny", artifacts, settings=FP32)
    assert snapshot.read(root).hash == expected
    assert result["events_taken"] > 0
    assert list((root / "tmp").iterdir()) == []


def test_ctrl_c_during_extraction_keeps_what_is_committed(fresh_python, tiny, tmp_path):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    root = names.features("tiny", artifacts).path
    expected = snapshot.read(root).hash
    shutil.rmtree(root)
    stopped = die(fresh_python, "extract", "after", 6, artifacts, signal.SIGINT)
    assert "KeyboardInterrupt" in stopped.stderr
    assert names.versions(root) == []
    assert list((root / "tmp").iterdir()) == []
    assert extract("tiny", artifacts, settings=FP32)["events_taken"] > 0
    assert snapshot.read(root).hash == expected


@pytest.mark.parametrize("number", [1, 40])
def test_a_full_disk_is_one_line_and_costs_only_the_part_under_way(tiny, tmp_path, monkeypatch, number):
    write, calls = shard.write, []

    def full(*args):
        calls.append(args)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*args)

    monkeypatch.setattr(shard, "write", full)
    with pytest.raises(StoreError, match="no space left.*run the same command again"):
        build(tiny_recipe(), tmp_path)
    root = tmp_path / "datasets/tiny"
    assert list((root / "tmp").iterdir()) == []
    committed = len(list((root / "events.zarr").glob("events-*")))
    n_arrays = len(snapshot.read(tiny / "datasets/tiny").event_schema.arrays) + 3  # and three offsets
    assert committed == (number - 1) // n_arrays
    monkeypatch.setattr(shard, "write", write)
    build(tiny_recipe(), tmp_path)
    assert snapshot.read(root).hash == snapshot.read(tiny / "datasets/tiny").hash


@pytest.mark.parametrize("workers", [1, 2])
def test_random_kills_of_an_extraction_cost_what_was_under_way(tiny, tmp_path, workers):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    found = kills.run(artifacts, "tiny", workers, n=3, seed=workers, delay=0.0)  # it asserts the rest
    assert sum(found["kills"].values()) == 3


def test_ctrl_c_ends_the_workers_and_keeps_what_is_committed(without_features):
    artifacts, root, expected = without_features
    arguments = ["--ckpt", "tiny", "--artifacts", str(artifacts), "--workers", "2"]
    command = kills.Extraction(*arguments, "--set", "dtype=float32")
    assert command.job()
    workers = command.workers()
    assert len(workers) == 2
    for worker in workers:
        worker.suspend()  # so that the command is not through before it is interrupted
    os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does
    for worker in workers:
        worker.resume()
    assert command.end() == 130
    assert psutil.wait_procs(workers, timeout=kills.WAIT)[1] == []
    others = [line for line in command.lines if not line.startswith("extract ")]
    assert others == ["interrupted; the same command continues\n"]
    assert extract("tiny", artifacts, settings=FP32)["events_taken"] > 0
    check_whole(root, expected)


STOP = """
import json, os, signal, sys
from pathlib import Path
from frz.extract.run import extract
from frz.store import atomic
real, calls = atomic.move_folder, []

def stopped(*args):
    calls.append(args)
    if sys.argv[2] == "before" and len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGSTOP)
    result = real(*args)
    if sys.argv[2] == "after" and len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGSTOP)
    return result

atomic.move_folder = stopped
print(json.dumps(extract("tiny", Path(sys.argv[1]), settings={"dtype": "float32"})))
"""


@pytest.fixture
def start_and_stop(project):
    """Start an extraction that stops itself before or after its n-th commit; returns once it stands still."""
    started = []

    def start(artifacts, moment, number):
        path = os.pathsep.join([str(project / "pipeline"), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-c", STOP, str(artifacts), moment, str(number)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        started.append(process)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process):
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return json.loads(out)


def check_whole(root, expected):
    """One version, of this content, with every byte as committed and nothing left over."""
    assert snapshot.versions(root) == [1]
    store = EventStore(root)
    assert store.snapshot.hash == expected
    found = verify(root)
    assert (found.damages, found.warnings, found.orphans) == ([], [], 0)
    assert [list((root / folder).iterdir()) for folder in ("tmp", "leases")] == [[], []]


@pytest.fixture
def without_features(tiny, tmp_path):
    """Tiny artifacts without features, where those will be, and the hash they must have."""
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    root = names.features("tiny", artifacts).path
    expected = snapshot.read(root).hash
    shutil.rmtree(root)
    return artifacts, root, expected


def test_two_processes_share_an_extraction(start_and_stop, without_features):
    artifacts, root, expected = without_features
    both = [start_and_stop(artifacts, "after", 1) for _ in range(2)]  # each has a job that the other must leave
    both[0].send_signal(signal.SIGCONT)
    results = [finish(process) for process in reversed(both)]
    assert sum(result["events_run"] for result in results) == 320
    assert all(result["events_run"] > 0 for result in results)
    check_whole(root, expected)


@pytest.mark.parametrize(("moment", "number"), [("before", 1), ("after", 5)])
def test_a_process_that_wakes_up_late_breaks_nothing(start_and_stop, without_features, monkeypatch, moment, number):
    artifacts, root, expected = without_features
    asleep = start_and_stop(artifacts, moment, number)
    monkeypatch.setattr(run, "Leases", partial(Leases, period=0.02, patience=0.2))
    result = extract("tiny", artifacts, settings=FP32)
    assert result["events_run"] > 0
    assert snapshot.read(root).hash == expected
    finish(asleep)
    check_whole(root, expected)
