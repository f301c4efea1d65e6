"""Two hosts that share a folder: network namespaces with host names of their own, joined by a virtual cable."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from frz import artifacts as names
from frz.store import snapshot

HOSTS = """
set -e
hostname one
ip link set lo up
mkfifo "$1/up" "$1/go"
unshare --net --uts sh -ec '
    hostname two
    : > "$1/up"
    read _ < "$1/go"
    ip link set lo up
    ip addr add 10.7.0.2/24 dev cable2
    ip link set cable2 up
    exec "$2" -c "$4" "$1"' sh "$@" &
read _ < "$1/up" || true
ip link add cable1 type veth peer name cable2
ip link set cable2 netns $!
ip addr add 10.7.0.1/24 dev cable1
ip link set cable1 up
echo > "$1/go"
"$2" -c "$3" "$1"
wait $! || echo "host two: exit $?" >&2
"""
"""$1 = a folder; $2 = Python; $3, $4 = what hosts one and two run."""


@pytest.fixture
def two_hosts(project, tmp_path):
    """Run a script on each of two hosts; gives what the first one prints as JSON."""
    tools = all(map(shutil.which, ("unshare", "ip", "mkfifo")))
    able = tools and subprocess.run(
        ["unshare", "-rnu", "sh", "-c", "ip link add cable1 type veth peer name cable2 && hostname one"],
        capture_output=True,
    )
    if not able or able.returncode != 0:
        pytest.skip("network namespaces cannot be made here (they need Linux, unshare, ip, and leave for users)")

    def run(one, two):
        path = os.pathsep.join([str(project / "pipeline"), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            ["unshare", "-rnu", "sh", "-c", HOSTS, "sh", str(tmp_path), sys.executable, one, two],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    return run


@pytest.fixture
def shared(tiny, tmp_path):
    """Tiny artifacts without features in the shared folder, where features will be, and the hash they must have."""
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    root = names.features("tiny", artifacts).path
    expected = snapshot.read(root).hash
    shutil.rmtree(root)
    return root, expected


SCHEDULER = """
import json, socket, sys
from pathlib import Path
from distributed import Client, Nanny, Scheduler, SpecCluster
from frz.extract.cluster import Workers
from frz.extract.run import extract
if __name__ == "__main__":
    scheduler = {"cls": Scheduler, "options": {"host": "10.7.0.1", "port": 8786, "dashboard_address": "10.7.0.1:0"}}
    workers = {0: {"cls": Nanny, "options": {"nthreads": 1, "host": "10.7.0.1", "memory_limit": 0}}}
    with SpecCluster(workers, scheduler) as cluster, Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
        hosts = sorted(client.run(socket.gethostname).values())
        who = Workers(scheduler="tcp://10.7.0.1:8786")
        result = extract("tiny", Path(sys.argv[1], "artifacts"), settings={"dtype": "float32"}, workers=who)
    print(json.dumps(result | {"hosts": hosts}))
"""
WORKER = """
import asyncio
from distributed import Worker
async def work():
    async with Worker("tcp://10.7.0.1:8786", nthreads=1, memory_limit=0) as worker:
        await worker.finished()
asyncio.run(work())
"""


def test_a_cluster_on_two_hosts(two_hosts, shared):
    root, expected = shared
    result, _ = two_hosts(SCHEDULER, WORKER)
    assert result["hosts"] == ["one", "two"]
    assert result["events_run"] == 320
    assert snapshot.read(root).hash == expected


EXTRACT = """
import json, sys
from functools import partial
from pathlib import Path
from frz.extract import run
from frz.store.lease import Leases
Path(sys.argv[1], "began").open().close()  # waits for the other host
run.Leases = partial(Leases, period=0.02, patience=1.0)
print(json.dumps(run.extract("tiny", Path(sys.argv[1], "artifacts"), settings={"dtype": "float32"})))
"""
DIE = """
import os, signal, sys
from pathlib import Path
from frz.extract.run import extract
from frz.store import atomic
real, calls = atomic.move_folder, []

def deadly(*args):
    calls.append(args)
    if len(calls) == 4:
        Path(sys.argv[1], "began").open("w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)

atomic.move_folder = deadly
extract("tiny", Path(sys.argv[1], "artifacts"), settings={"dtype": "float32"})
"""


def test_a_host_takes_over_from_one_that_died(two_hosts, shared, tmp_path):
    root, expected = shared
    os.mkfifo(tmp_path / "began")
    result, said = two_hosts(EXTRACT, DIE)
    assert "host two: exit 137" in said
    assert 0 < result["events_run"] < 320  # what the other had committed is taken
    assert snapshot.read(root).hash == expected
    left = [json.loads(path.read_text())["process"][0] for path in (root / "leases").iterdir()]
    assert set(left) <= {"two"}  # of work that it had finished, or that it was there at all; gc clears them away
