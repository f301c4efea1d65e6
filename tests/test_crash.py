"""kill -9, Ctrl-C and a full disk at chosen moments: the same command then ends in the same content."""

import errno
import os
import shutil
import signal

import pytest

from conftest import tiny_recipe
from frz import artifacts as names
from frz.data.build import build
from frz.errors import StoreError
from frz.extract.run import extract
from frz.store import shard, snapshot

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
