"""Two processes against one: the same weights, the same metrics, one set of files, one line when they end."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_ranks import N_TRAIN, SETTINGS, run
from toy_run import ToySource

from frz.training import checkpoint
from frz.training.config import TIMING
from frz.training.distributed import World, first_process
from frz.training.record import LAST, METRICS, STATE

SCRIPT = str(Path(__file__).with_name("toy_ranks.py"))


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    paths = [*sys.path, os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMING} for line in found]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes."""
    folder = tmp_path_factory.mktemp("two")
    done = torchrun(SCRIPT, str(folder))
    assert done.returncode == 0, done.stderr
    assert [done.stdout.count(f"process {rank} was interrupted") for rank in (0, 1)] == [2, 2]
    assert "terminate" not in done.stderr
    return folder


@pytest.mark.parametrize("start", range(6))
def test_a_continuation_asks_for_the_same_batches(start: int) -> None:
    """A source may gather several batches of a plan together, so that it has to see the whole plan."""
    asked = []

    class Source(ToySource):
        def batches(self, plan: Any, start: int = 0) -> Any:
            asked.append([positions.tolist() for positions in plan])
            return super().batches(plan, start)

    source, world = Source(8, 1), World(1, 2)
    plan = [np.arange(i, j) for i, j in ((0, 2), (2, 3), (3, 5), (5, 6), (6, 8))]
    whole = list(world.batches(source, plan))
    later = list(world.batches(source, plan, start))
    ids = [[None if batch is None else batch["event/id"].tolist() for batch in found] for found in (whole, later)]
    assert ids[0] == [[1001], None, [1004], None, [1007]]
    assert ids[1] == ids[0][start:]
    assert asked[0] == asked[1]


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - {"left"}))
def test_two_processes_are_one(tmp_path: Path, two: Path, name: str) -> None:
    """All files, tensors to 1e-5; a batch that is skipped is skipped whole."""
    run(tmp_path, name)
    theirs = two / name
    top = [path.name for folder in (tmp_path, theirs) for path in folder.glob("top-*")]
    files = [{p.name for p in folder.iterdir()} - set(top) for folder in (tmp_path, theirs)]
    assert files[0] == files[1]
    assert len(top) == 2 * SETTINGS[name].get("save_top_k", 0)
    for file in [file for file in files[0] if file.endswith(".safetensors")]:
        ours = checkpoint.load(tmp_path / file)[0]
        found = checkpoint.load(theirs / file)[0]
        assert set(found) - set(ours) == ({"random1/cpu"} if file == STATE else set())
        for key in [key for key in ours if not key.startswith("random")]:
            if key.endswith("seen"):  # which counts losses: the other process has its own
                continue
            assert torch.allclose(found[key], ours[key], rtol=1e-5, atol=1e-5), (file, key)
    for mine, other in zip(lines(tmp_path), lines(theirs), strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-6)
    if name == "skip":
        assert lines(theirs)[-1]["train/skipped"] == 3


def test_an_interrupted_run_ends_like_a_whole_one(two: Path) -> None:
    """Bit for bit, although only one process was told to end."""
    whole, resumed = two / "techniques", two / "interrupted"
    assert lines(whole) == lines(resumed)
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in resumed.iterdir())
    for path in whole.glob("*.safetensors"):
        ours, theirs = checkpoint.load(path)[0], checkpoint.load(resumed / path.name)[0]
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in ours), path.name


def test_one_process_goes_on_where_two_were(two: Path, tmp_path: Path) -> None:
    """Up to rounding."""
    shutil.copytree(two / "left", tmp_path / "left")
    assert run(tmp_path / "left", "left").resumed
    ours, theirs = (checkpoint.load(folder / LAST)[0] for folder in (tmp_path / "left", two / "techniques"))
    for name in ours.keys() - {"seen"}:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize(
    ("fate", "line"),
    [
        ("error", "error: the fifth loss was asked for"),
        ("kill", "error: another process of this run has ended; its message may stand above; the same command goes on"),
    ],
)
def test_one_process_that_ends_ends_all_with_one_line(tmp_path: Path, fate: str, line: str) -> None:
    done = torchrun(SCRIPT, str(tmp_path), fate)
    assert done.returncode != 0
    said = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert len(said) <= 1
    if fate == "error" or said:  # torchrun may end the survivor before it notices
        assert said[0].startswith(line)


def test_parts_of_a_batch() -> None:
    """Every event once; a process may have none."""
    source = ToySource(N_TRAIN, 1)
    plan = source.plan(0)
    worlds = [World(rank, 3) for rank in range(3)]
    made = [list(world.batches(source, plan, 1)) for world in worlds]
    for number, positions in enumerate(plan[1:]):
        parts = [batches[number] for batches in made]
        ids = [part["event/id"].tolist() for part in parts if part is not None]
        assert sorted(sum(ids, [])) == sorted((positions + 1000).tolist())
        assert [len(part["event/id"]) if part else 0 for part in parts] == [w.count(len(positions)) for w in worlds]
    assert [batches[-1] is None for batches in made if len(plan[-1]) == 1].count(True) in (0, 2)


def test_who_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_process()
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    monkeypatch.setitem(os.environ, "RANK", "1")
    assert not first_process()
    monkeypatch.setitem(os.environ, "RANK", "0")
    assert first_process()
