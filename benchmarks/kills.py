"""kill -9 at random moments of an extraction: does the same command end in the same content?

`python -m benchmarks kills --workers 4 --n 30 --json` extracts a small data set undisturbed, then again and again while
it kills the command's whole process group, the command alone (its workers must go too) or one of its workers, after a
random number of jobs and a random delay. A command that was killed is given again, until it ends. Then the store must
be what the undisturbed one is, with nothing under way left in it and no process alive.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from frz.config import read_yaml
from frz.data.build import build
from frz.extract.cluster import Workers
from frz.extract.run import extract
from frz.pretrain import train
from frz.store import snapshot
from frz.store.gc import collect

ROOT = Path(__file__).parents[1]
MOST_JOBS, MOST_SECONDS = 6, 0.3
"""A kill comes after so many jobs, and so long after the last of them, at most."""
MOST_KILLS = 5
"""Kills from an empty store to a finished one, at most."""
WAIT = 60
"""Seconds until workers whose client is gone must be gone."""

COMMAND = "from frz import progress; progress.LINE_SECONDS = 0; from frz_cli.main import main; main()"
"""The command line, with a line of progress for every job."""


class Extraction:
    """A running `frz extract` in a process group of its own; iterating gives a line per finished job."""

    def __init__(self, *arguments: str) -> None:
        paths = [str(ROOT / "pipeline"), str(ROOT / "cli"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "extract", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self.lines: list[str] = []

    def job(self) -> bool:
        """Wait for a job to be finished; False if the command has ended."""
        assert self.process.stderr is not None
        while line := self.process.stderr.readline():
            self.lines.append(line)
            if line.startswith("extract "):
                return True
        return False

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if any("spawn_main" in word for word in child.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def kill(self, who: str, rng: np.random.Generator) -> bool:
        """kill -9 the `group`, the `client` or a `worker`; whether there was one to kill."""
        workers = self.workers()
        if who == "worker":
            if workers:
                workers[rng.integers(len(workers))].kill()
            return bool(workers)
        if who == "group":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        _, orphans = psutil.wait_procs(workers, timeout=WAIT)
        assert not orphans, f"workers outlive their client: {orphans}"
        return self.end() == -signal.SIGKILL

    def end(self) -> int:
        """Wait for the command; its exit status."""
        while self.job():
            pass
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.wait()


def run(artifacts: Path, ckpt: str, workers: int, n: int, seed: int = 0, delay: float = MOST_SECONDS) -> dict[str, Any]:
    """Kill `n` times; what was found.

    Raises
    ------
    AssertionError
        If a command that was given again fails, or ends in other content, or leaves something behind.
    """
    rng, killed, finished = np.random.default_rng(seed), Counter[str](), 0
    root = artifacts / "killed"
    arguments = ["--ckpt", ckpt, "--artifacts", str(artifacts), "--workers", str(workers), "--threads", "1"]
    extract(ckpt, artifacts, settings={"out": artifacts / "whole"}, workers=Workers(threads=1))
    expected = _hash(artifacts / "whole")
    while sum(killed.values()) < n:
        shutil.rmtree(root, ignore_errors=True)
        left = min(MOST_KILLS, n - sum(killed.values()))
        status = None
        while status != 0:
            command = Extraction(*arguments, "--set", f"out={root}")
            while left and all(command.job() for _ in range(1 + int(rng.integers(MOST_JOBS)))):
                time.sleep(rng.uniform(0, delay))
                who = str(rng.choice(["group", "client", "worker"] if workers > 1 else ["group"]))
                if command.kill(who, rng):
                    killed[who] += 1
                    left -= 1
                if command.process.poll() is not None:
                    break
            status = command.process.poll()
            status = command.end() if status is None else status
            command.process.stderr.close()
            assert status in (0, -signal.SIGKILL), "".join(command.lines)
        finished += 1
        assert _hash(root) == expected, "another content"
        collect(root, delete=True)
        left_over = [str(path) for folder in ("tmp", "leases") for path in (root / folder).glob("*")]
        assert not left_over, f"left behind: {left_over}"
    return {"workers": workers, "kills": dict(killed), "finished_with_the_same_content": finished, "left_over": 0}


def _hash(root: Path) -> str:
    found = snapshot.read(root)
    assert found is not None, f"no version in {root}"
    return found.hash


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks kills", description=__doc__)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--n", type=int, default=30, help="kills")
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="JSON instead of a line per number")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        artifacts = Path(folder)
        recipe = read_yaml(ROOT / "data" / "muon-sim.yaml")
        build(recipe | {"source": recipe["source"] | {"n_events": options.events}}, artifacts)
        config = read_yaml(ROOT / "configs" / "muon" / "backbone.yaml")
        train(config | {"trainer": config["trainer"] | {"max_epochs": 1, "device": "cpu"}}, artifacts)
        result = run(artifacts, config["name"], options.workers, options.n, options.seed)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(name, value)


if __name__ == "__main__":
    main()
