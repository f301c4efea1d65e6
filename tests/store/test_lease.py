"""One holder at a time, none for ever, and a holder that wakes up late harms nobody."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from frz.store.lease import ALONE, FIRST_BEAT, Leases, Survey
from frz.store.process import Process

CHILD = """
import sys
from pathlib import Path
from frz.store.lease import Leases
with Leases(Path(sys.argv[1]), period=3600).hold() as mine:
    print(mine.take("part"), flush=True)
    for line in sys.stdin:
        if line == "beat\\n":
            mine.beat()
        print(mine.lost("part"), flush=True)
"""

SHARE = """
import sys
from pathlib import Path
from frz.store.lease import Leases
root = Path(sys.argv[1])
with Leases(root).hold() as mine:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(100):
        if mine.take(str(number)):
            if not (root / f"{number}.done").exists():
                print(number)
                (root / f"{number}.done").touch()
            mine.release(str(number))
"""


class Clock:
    """Seconds that pass only when they are told to, or waited for."""

    def __init__(self):
        self.now, self.on_wait = 0.0, []

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds
        for call in self.on_wait:
            call()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def leases(tmp_path, clock):
    """Makes the leases of one more worker; no heartbeat but by hand."""

    def make():
        return Leases(tmp_path, period=3600, clock=clock, wait=lambda seconds: clock.wait(min(seconds, 5)))

    return make


@pytest.fixture
def child(tmp_path):
    """Another process, which holds `part`."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    with process:
        yield process
        process.kill()


def files(tmp_path):
    return sorted(path.name for folder in ("leases", "tmp") for path in (tmp_path / folder).iterdir())


def move_elsewhere(path):
    """Make a lease one of another machine, whose processes cannot be looked at."""
    lease = json.loads(path.read_text())
    lease["process"][0] = "elsewhere"
    path.write_text(json.dumps(lease))


def test_one_worker_has_a_lease_until_it_gives_it_back(leases, tmp_path):
    with leases().hold() as one, leases().hold() as two:
        assert one.take("a")
        assert not two.take("a")
        assert two.take("b")
        assert not one.lost("a")
        assert two.lost("a")
        one.release("a")
        assert one.lost("a")
        assert two.take("a")
    assert files(tmp_path) == []


def test_everything_is_given_back_after_an_error(leases, tmp_path):
    def fail():
        with leases().hold() as mine:
            assert mine.take("a")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert files(tmp_path) == []


def test_one_thread_renews_all_that_is_held(tmp_path):
    before = threading.active_count()
    renewed = threading.Event()

    class Watched(Leases):
        def beat(self):
            super().beat()
            if "b" in self._held:
                renewed.set()

    with Watched(tmp_path, period=0.001).hold() as mine:
        assert mine.take("a")
        assert mine.take("b")
        assert renewed.wait(60)
        assert threading.active_count() == before + 1
        beats = [json.loads(path.read_text())["beat"] for path in (tmp_path / "leases").glob("?.json")]
        assert len(beats) == 2
        assert min(beats) > FIRST_BEAT
    assert threading.active_count() == before


def test_processes_share_the_work_without_doing_any_of_it_twice(tmp_path):
    command = [sys.executable, "-c", SHARE, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    done = [number for worker in workers for number in worker.communicate()[0].split()]
    assert sorted(map(int, done)) == list(range(100))
    assert {worker.returncode for worker in workers} == {0}
    assert sorted(path.name for path in tmp_path.rglob("*") if path.parent.name in ("leases", "tmp")) == []


@pytest.mark.parametrize("reaped", [True, False])
def test_the_lease_of_a_killed_process_is_free_at_once(leases, child, tmp_path, reaped):
    other = leases()
    assert not other.take("part")
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
    with other.hold():  # also clears away the dead worker's own lease
        assert other.take("part")
    assert files(tmp_path) == []


def test_a_stopped_process_loses_its_lease_and_touches_nothing_when_it_wakes_up(leases, child, clock, tmp_path):
    def ask(line):
        child.stdin.write(f"{line}\n")
        child.stdin.flush()
        return child.stdout.readline().strip()

    other, path = leases(), tmp_path / "leases" / "part.json"
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert not other.take("part")
    clock.now = 59
    assert not other.take("part")
    clock.now = 60
    assert other.take("part")
    mine = path.read_bytes()
    child.send_signal(signal.SIGCONT)
    assert ask("beat") == "True"
    assert path.read_bytes() == mine
    assert not other.lost("part")
    child.stdin.close()  # and it gives back what it believes to hold
    assert child.wait() == 0
    assert path.read_bytes() == mine
    other.release("part")
    assert files(tmp_path) == []


def test_a_heartbeat_within_a_minute_keeps_a_lease(leases, clock, tmp_path):
    one, two = leases(), leases()
    assert one.take("a")
    for _ in range(5):
        assert not two.take("a")
        clock.now += 59
        one.beat()
    assert not two.take("a")
    clock.now += 60
    assert two.take("a")
    assert one.lost("a")


def test_what_a_power_failure_left_of_a_lease_is_free_after_a_minute(leases, clock, tmp_path):
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases" / "a.json").touch()
    mine = leases()
    assert not mine.take("a")
    clock.now += 60
    assert mine.take("a")


def test_of_many_who_find_a_stale_lease_one_gets_it(leases, tmp_path):
    """Sixteen threads at once, a hundred times; each lease is judged stale by all."""
    dead = Process.this()._replace(start="1")
    (tmp_path / "leases").mkdir()
    workers = [leases() for _ in range(16)]
    for number in range(100):
        path = tmp_path / "leases" / f"{number}.json"
        path.write_text(json.dumps({"process": dead, "token": "dead", "beat": 0}))
        barrier = threading.Barrier(len(workers))

        def take(worker, name=str(number), barrier=barrier):
            barrier.wait()
            worker.take(name)

        threads = [threading.Thread(target=take, args=(worker,)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        holders = [worker for worker in workers if not worker.lost(str(number))]
        assert len(holders) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("what", ["the holder woke up", "another has it by now", "another took it just now"])
def test_a_lease_that_changed_behind_the_breaker_is_put_back(leases, clock, tmp_path, monkeypatch, what):
    """Just before, or just after, the breaker moves the lease aside."""
    one, breaker, third = leases(), leases(), leases()
    assert one.take("a")
    assert not breaker.take("a")
    clock.now += 60
    path = tmp_path / "leases" / "a.json"
    real = type(path).rename

    def rename(self, target):
        monkeypatch.undo()
        if what == "the holder woke up":
            one.beat()
        else:
            path.unlink()
            assert third.take("a")
        result = real(self, target)
        if what == "another took it just now":
            assert one.take("a")  # the name was free for this moment
        return result

    monkeypatch.setattr(type(path), "rename", rename)
    assert not breaker.take("a")
    assert (one.lost("a"), breaker.lost("a"), third.lost("a")) == {
        "the holder woke up": (False, True, True),
        "another has it by now": (True, True, False),
        "another took it just now": (False, True, True),
    }[what]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_heartbeat_goes_to_the_file_that_was_read(leases, tmp_path, monkeypatch):
    """Between reading its lease and writing to it, a holder loses it to another."""
    one, two = leases(), leases()
    assert one.take("a")
    path = tmp_path / "leases" / "a.json"
    real = one._content

    def content():
        path.unlink()
        assert two.take("a")
        return real()

    monkeypatch.setattr(one, "_content", content)
    one.beat()
    assert not two.lost("a")
    assert one.lost("a")


def test_a_worker_says_that_it_is_at_work(leases):
    with leases().hold() as mine:
        found = leases().survey()
        assert found == Survey([f"process {os.getpid()} of {Process.this().host}"], [])
        assert not mine.lost()
    assert leases().survey() == Survey([], [])


def test_a_stopped_process_of_this_machine_counts_as_at_work(leases, child, clock):
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    mine = leases()
    assert not mine.take("part")
    clock.now += 1000
    assert mine.survey().live
    child.send_signal(signal.SIGCONT)


def test_a_worker_elsewhere_is_known_by_its_heartbeat(leases, clock, tmp_path):
    path = tmp_path / "leases" / "a.json"
    assert leases().take("a")
    move_elsewhere(path)
    clock.on_wait = [lambda: path.write_text(path.read_text().replace(str(FIRST_BEAT), str(FIRST_BEAT + 1)))]
    assert len(leases().survey().live) == 1
    assert clock.now == 5
    clock.on_wait = []
    assert leases().survey() == Survey([], ["a"])
    assert clock.now == 65


def test_who_needs_the_store_alone_has_it_while_nobody_works_on_it(leases, clock):
    with leases().alone() as found:
        assert found.live == []
        with leases().alone() as second:
            assert second.live != []
        entered = []
        waits, ended = threading.Event(), threading.Event()

        def work():
            with leases().hold():
                entered.append(True)

        clock.on_wait = [waits.set, lambda: ended.wait(60)]  # or its clock would run on until the lease is stale
        worker = threading.Thread(target=work)
        worker.start()
        assert waits.wait(60)
        assert entered == []
    ended.set()
    worker.join()
    assert entered == [True]
    with leases().hold(), leases().alone() as found:
        assert found.live != []


def test_one_who_died_alone_on_the_store_keeps_nobody_out(leases, clock, tmp_path):
    dead = leases()
    assert dead.take(ALONE)
    move_elsewhere(tmp_path / "leases" / f"{ALONE}.json")
    with leases().alone() as found:
        assert found.live == []
    assert clock.now == 60
    assert dead.take(ALONE)
    move_elsewhere(tmp_path / "leases" / f"{ALONE}.json")
    with leases().hold():
        assert clock.now == 120
