"""Whole or not there, also when the disk is full or the process is gone."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from frz.errors import StoreError
from frz.store import atomic


def test_write_file_replaces_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.json"
    atomic.write_json(path, {"n": 1})
    atomic.write_json(path, {"n": 2})
    assert path.read_text() == '{\n "n": 2\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_create_is_exclusive(tmp_path):
    path = tmp_path / "1.json"
    assert atomic.create(path, b"first", tmp_path / "tmp")
    assert not atomic.create(path, b"second", tmp_path / "tmp")
    assert path.read_bytes() == b"first"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="no space left.*run the same command again"):
        atomic.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_where_nothing_may_be_written_the_place_is_named_and_not_what_lies_beside_it(tmp_path, monkeypatch, number):
    def refusing(name):
        write = getattr(Path, name)

        def refuse(path, *rest, **named):
            if path.is_relative_to(tmp_path):  # who this process is is read, too
                raise OSError(number, os.strerror(number), str(path))
            return write(path, *rest, **named)

        return refuse

    for name, write in (
        ("open", lambda path: atomic.write_file(path, b"new")),
        ("write_bytes", lambda path: atomic.create(path, b"new", tmp_path)),
        ("mkdir", atomic.make_folder),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, refusing(name))
            with pytest.raises(StoreError) as caught:
                write(tmp_path / "state")
        expected = f"{tmp_path / 'state'}: cannot be written ({os.strerror(number)}); make its folder writable"
        assert str(caught.value).startswith(expected)


def test_sweep_takes_what_dead_processes_left_and_nothing_else(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from frz.store import atomic
atomic.scratch(Path({str(tmp_path)!r})).mkdir()
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", code], check=False)
    assert died.returncode == -signal.SIGKILL
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    left[0].rename(tmp_path / f".{left[0].name}")  # as beside a file that it was writing
    mine, foreign = atomic.scratch(tmp_path), tmp_path / "otherhost+1+1+0"
    mine.mkdir()
    foreign.mkdir()
    atomic.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, foreign])


def test_a_line_is_appended_whole(tmp_path):
    path: Path = tmp_path / "journal"
    atomic.append_line(path, "one")
    atomic.append_line(path, "two\n")
    assert path.read_text() == "one\ntwo\n"
