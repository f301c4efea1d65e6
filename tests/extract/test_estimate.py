"""A dry run writes nothing but its prediction, and the bytes it predicts are the bytes that come."""

import errno
import importlib
import json
import mmap
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import tiny_recipe
from frz import artifacts as names
from frz.data.build import build
from frz.extract import estimate
from frz.extract.memory import Peak, anonymous
from frz.extract.run import extract
from frz.pretrain import train
from frz.progress import show
from frz.store import EventStore
from frz_cli.main import app


@pytest.fixture
def mine(tiny, tmp_path):
    """A copy of the tiny artifacts that a test may change."""
    return shutil.copytree(tiny, tmp_path / "artifacts")


def close(row, error):
    return abs(row["predicted"] - row["actual"]) <= error * row["actual"]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_bytes_are_predicted_within_a_percent(mine, dtype):
    settings = {"out": str(mine / "out"), "dtype": dtype}
    predicted = extract("tiny", mine, settings=settings, dry_run=True)
    assert (predicted["events"], predicted["events_run"]) == (320, 320)
    assert [path.name for path in (mine / "out").rglob("*") if path.is_file()] == [estimate.PREDICTION]
    assert predicted["seconds"] > 0
    assert set(predicted["stages"]) == {"read", "forward", "encode", "write"}
    result = extract("tiny", mine, settings=settings)["prediction"]
    files = [path for path in (mine / "out/events.zarr").glob("*/**/*") if path.is_file()]
    assert result["bytes_written"]["actual"] == sum(path.stat().st_size for path in files)
    assert close(result["bytes_written"], 0.01)
    for name, row in result["arrays"].items():
        assert close(row, 0.01), (name, row)
    assert set(EventStore(mine / "out").schema.arrays) < set(result["arrays"])
    assert result["seconds"]["actual"] > 0


def test_a_new_version_is_predicted_for_what_it_adds(mine):
    build(tiny_recipe(400), mine)
    fp32 = {"dtype": "float32"}
    predicted = extract("tiny", mine, settings=fp32, dry_run=True)
    result = extract("tiny", mine, settings=fp32)
    assert result["events_run"] == predicted["events_run"] < 400
    assert close(result["prediction"]["bytes_written"], 0.01)


def test_where_nothing_is_left_nothing_is_predicted(mine):
    predicted = extract("tiny", mine, settings={"dtype": "float32"}, dry_run=True)
    assert (predicted["events_run"], predicted["bytes"]) == (0, 0)
    assert "prediction" not in extract("tiny", mine, settings={"dtype": "float32"})


def test_lost_truth_is_predicted_without_a_forward_pass(mine):
    place = names.features("tiny", mine).path / "events.zarr"
    lost = sum(file.stat().st_size for file in place.glob("annotation-*/**/*") if file.is_file())
    for folder in place.glob("annotation-*"):
        shutil.rmtree(folder)
    predicted = extract("tiny", mine, settings={"dtype": "float32"}, dry_run=True)
    assert predicted["events_run"] == 0
    assert abs(predicted["bytes"] - lost) <= 0.01 * lost


def test_members_kept_by_a_threshold_are_predicted_from_the_sample(mine, tmp_path, monkeypatch):
    shutil.copy(Path(__file__).with_name("pair_net.py"), tmp_path / "pair_net.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("pair_net", None)
    importlib.invalidate_caches()
    trainer = {"max_epochs": 1, "batch_size": 50, "device": "cpu"}
    train({"name": "net", "family": "pair_net:PairNet", "data": "tiny", "trainer": trainer}, mine)
    predicted = extract("net", mine, settings={"batch_size": 16}, dry_run=True)
    assert predicted["tried"]["batches"] <= estimate.SAMPLES
    result = extract("net", mine, settings={"batch_size": 16})["prediction"]
    sys.modules.pop("pair_net")
    for name in ("pair/logit", "pair/query"):
        assert close(result["arrays"][name], 0.2), name
    assert close(result["arrays"]["hit/embedding"], 0.01)


def test_a_prediction_of_other_work_is_not_compared(mine):
    settings = {"out": str(mine / "out")}
    extract("tiny", mine, settings=settings, dry_run=True)
    build(tiny_recipe(400), mine)
    assert "prediction" not in extract("tiny", mine, settings=settings)


def test_the_command_prints_a_short_table_or_everything(mine):
    arguments = ["extract", "--ckpt", "tiny", "--artifacts", str(mine), "--set", f"out={mine / 'out'}", "--dry-run"]
    short, full = (CliRunner().invoke(app, [*arguments, *more], catch_exceptions=False) for more in ([], ["--json"]))
    assert "peak_memory" in short.stdout
    assert "hit/embedding" not in short.stdout
    assert json.loads(full.stdout)["arrays"]["hit/embedding"] > 0


def test_rates_between_tried_sizes_are_interpolated():
    batch = {n: estimate.Batch(np.arange(2), n) for n in (10, 20, 30, 40)}
    tried, planned = [batch[10], batch[30], batch[30]], list(batch.values())
    # 1 per member at 10, 3 at 30 and beyond, 2 between
    found = estimate._extrapolate(tried, [10, 60, 120], planned, lambda b: b.padded, lambda b: b.padded)
    assert found == 10 + 40 + 90 + 120


@pytest.mark.skipif(anonymous() is None, reason="the system does not say how much memory a process has")
def test_the_peak_of_memory_is_seen_after_it_has_passed():
    ready = Peak()
    # mapped by hand: an allocator may take what it holds already, and keep it
    with ready as memory, mmap.mmap(-1, 1 << 28, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        while memory.bytes < anonymous():
            pass
    assert memory.bytes - anonymous() > 200e6


def test_a_dry_run_of_a_store_that_cannot_be_written_predicts_and_says_so(mine, monkeypatch, capsys):
    def refuse(descriptor):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", refuse)
    show("lines")
    assert extract("tiny", mine, settings={"dtype": "float32"}, dry_run=True)["events_run"] == 0
    assert "the prediction is not kept to be compared: " in capsys.readouterr().err
    assert not list(mine.glob("features/*/prediction.json"))
