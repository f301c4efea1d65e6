"""Worker processes: the same content as one process, also when workers die; what does not fit is one line."""

import os
import shutil
import signal
import sys

import dask
import pytest
import torch
from distributed import Client, LocalCluster

from conftest import TINY_BACKBONE, tiny_recipe
from frz import artifacts as names
from frz import progress
from frz.data.build import build
from frz.errors import ClusterError, ConfigError, StoreError
from frz.extract import cluster
from frz.extract import order as orders
from frz.extract import plan as planning
from frz.extract.cluster import Workers
from frz.extract.opening import open_both
from frz.extract.run import extract
from frz.extract.settings import Settings, feature_schema
from frz.extract.work import Work
from frz.pretrain import train
from frz.store import snapshot

FP32 = {"dtype": "float32"}
OPTIONS = {"dashboard_address": "127.0.0.1:0", "memory_limit": 0, "silence_logs": "CRITICAL"}


@pytest.fixture(scope="module")
def scheduler():
    """A running cluster of two worker processes, as others would start it."""
    with LocalCluster(n_workers=2, threads_per_worker=1, **OPTIONS) as running:
        yield running.scheduler_address


@pytest.fixture
def mine(tiny, tmp_path):
    """A copy of the tiny artifacts that a test may change, without features."""
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    shutil.rmtree(artifacts / "features")
    return artifacts


def expected(tiny) -> str:
    return snapshot.read(names.features("tiny", tiny).path).hash


def empty(root) -> bool:
    return not any(path for folder in ("tmp", "leases") for path in (root / folder).iterdir())


def test_a_running_cluster_gives_the_content_of_one_process(tiny, mine, scheduler, capsys):
    progress.show("lines")
    extract("tiny", mine, settings=FP32, workers=Workers(scheduler=scheduler), dry_run=True)
    assert "one process, not that of the workers" in capsys.readouterr().err
    result = extract("tiny", mine, settings=FP32, workers=Workers(scheduler=scheduler))
    assert "prediction" not in result
    root = names.features("tiny", mine).path
    found = snapshot.read(root)
    assert found.hash == expected(tiny)
    assert result["events_run"] == 320
    assert (found.about["made_with"]["threads"], found.about["made_with"]["device"]) == ("1", "cpu")
    assert empty(root)
    again = extract("tiny", mine, settings=FP32, workers=Workers(scheduler="nothing is asked of it"))
    assert again["events_run"] == 0


class Deadly(Workers):
    """Workers of which one is killed when the first job is done."""

    def do(self, work, jobs, n_events):
        for number, done in enumerate(super().do(work, jobs, n_events)):
            if number == 0:
                with Client(self.scheduler, set_as_default=False) as client:
                    os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
            yield done


def test_a_worker_that_is_killed_is_survived(tiny, mine, scheduler):
    assert extract("tiny", mine, settings=FP32, workers=Deadly(scheduler=scheduler))["events"] == 320
    root = names.features("tiny", mine).path
    assert snapshot.read(root).hash == expected(tiny)
    snapshot.prepare_root(root)  # sweeps what the dead one had under way
    assert empty(root)


def test_rows_of_earlier_versions_reach_the_workers(mine, scheduler, monkeypatch):
    monkeypatch.setattr(planning, "MOST_PIECES", 0)  # every part that changed is written anew
    extract("tiny", mine, settings=FP32)
    build(tiny_recipe(480), mine)
    other = shutil.copytree(mine, mine.with_name("other"))
    one = extract("tiny", mine, settings=FP32)
    several = extract("tiny", other, settings=FP32, workers=Workers(scheduler=scheduler))
    assert 0 < one["events_run"] == several["events_run"] < 480
    roots = [names.features("tiny", artifacts).path for artifacts in (mine, other)]
    assert snapshot.read(roots[0]).hash == snapshot.read(roots[1]).hash


def test_a_family_in_the_folder_of_the_user_reaches_the_workers(mine, scheduler, tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(
        "from frz.backbones.hit_track.model import HitTrack\nclass Net(HitTrack):\n    '''Mine.'''\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])  # as the command line does
    train({**TINY_BACKBONE, "name": "mine", "family": "my_net:Net"}, mine)
    assert extract("mine", mine, workers=Workers(scheduler=scheduler))["events_run"] == 320


def test_an_error_of_the_user_comes_back_whole(mine, scheduler):
    file = sorted((mine / "datasets/tiny/events.zarr").rglob("hit/raw/c/0/0"))[5]
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StoreError, match="hit/raw/c/0/0.*100 bytes"):
        extract("tiny", mine, settings=FP32, workers=Workers(scheduler=scheduler))
    (root,) = (mine / "features").iterdir()
    assert snapshot.versions(root) == []
    assert not any((root / "leases").iterdir())


def test_workers_with_other_versions_are_refused(mine, scheduler, monkeypatch):
    monkeypatch.setattr(orders, "libraries", lambda: (("frz", "0.0.0"),))
    with pytest.raises(ClusterError, match=r"worker on .*this command frz 0\.0\.0"):
        extract("tiny", mine, settings=FP32, workers=Workers(scheduler=scheduler))


@pytest.fixture
def order(mine):
    """What workers would be told, for a call of their side in this process."""
    frozen, source = open_both(names.weights("tiny", mine), mine)
    settings, root = Settings(), mine / "features/one"
    snapshot.prepare_root(root)
    out = feature_schema(frozen.module, source.schema, settings)
    with orders.order_for(Work(frozen, source, None, root, out, settings), None) as order:
        yield order


def test_a_worker_that_sees_other_files_is_refused(order):
    assert orders.open_work(order).source.n_events == 320
    with pytest.raises(ClusterError, match=r"does not see .*features/one"):
        orders.open_work(order._replace(note=order.note + "0"))
    with pytest.raises(ClusterError, match="another backbone or data set"):
        orders.open_work(order._replace(fingerprint="0" * 64))


def test_no_scheduler_is_one_line(mine):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.1s"}),
        pytest.raises(ClusterError, match=r"^tcp://127.0.0.1:1: no scheduler answers"),
    ):
        extract("tiny", mine, settings=FP32, workers=Workers(scheduler="tcp://127.0.0.1:1"))


def test_a_scheduler_that_goes_away_is_one_line(mine):
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, **OPTIONS) as running:

        class Left(Workers):
            def do(self, work, jobs, n_events):
                for done in super().do(work, jobs, n_events):
                    running.close()
                    yield done

        with (
            dask.config.set({"distributed.comm.timeouts.connect": "0.1s"}),
            pytest.raises(ClusterError, match="went away; the same command continues"),
        ):
            extract("tiny", mine, settings=FP32, workers=Left(scheduler=running.scheduler_address))


@pytest.mark.parametrize("chosen", [{"n": 0}, {"threads": 0}, {"n": 2, "scheduler": "tcp://a:1"}])
def test_numbers_that_make_no_sense_are_refused(chosen):
    with pytest.raises(ConfigError):
        Workers(**chosen)


def test_no_threads_are_said_as_they_were_given():
    with pytest.raises(ConfigError, match="^2 workers with 0 threads; give at least 1$"):
        Workers(2, threads=0)


def test_devices_are_dealt_in_turn(monkeypatch):
    assert cluster._environments(2, torch.device("cpu")) == [{}, {}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    dealt = [found["CUDA_VISIBLE_DEVICES"] for found in cluster._environments(3, torch.device("cuda"))]
    assert dealt == ["3", "5", "3"]
