"""A process is known to be gone only when it is."""

import os
import signal
import subprocess
import sys

from frz.store.process import Process

WAIT = "import sys; print('here', flush=True); sys.stdin.read()"


def start() -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "here\n"
    return child


def as_seen(child: subprocess.Popen[str]) -> Process:
    with open(f"/proc/{child.pid}/stat") as stat:
        return Process.this()._replace(pid=child.pid, start=stat.read().rpartition(")")[2].split()[19])


def test_a_process_runs_until_it_is_killed_whether_or_not_its_parent_has_looked():
    with start() as child:
        process = as_seen(child)
        assert process.runs() is True
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert process.runs() is True
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and stays in the table of processes
        assert process.runs() is False
        child.wait()
        assert process.runs() is False


def test_a_process_with_the_id_of_another_is_not_taken_for_it():
    assert Process.this().runs() is True
    assert Process.this()._replace(start="1").runs() is False


def test_of_another_machine_or_an_earlier_start_nothing_is_known():
    assert Process.this()._replace(host="elsewhere", start="1").runs() is None
    assert Process.this()._replace(boot="00000000", start="1").runs() is None
