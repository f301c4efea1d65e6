"""The bench on tiny artifacts: every way has its numbers, and they fit together."""

import json
import shutil

import pytest

from conftest import TINY_HEAD
from frz.errors import IdentityError
from frz.joint.bench import advice, bench

USER_HEAD = {**TINY_HEAD, "head": "user_head:MeanHitHead", "model": {}}


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("config", [TINY_HEAD, USER_HEAD], ids=["regression", "of a user"])
def test_every_way_is_measured_and_nothing_is_written(tiny, config, project, monkeypatch):
    monkeypatch.syspath_prepend(project / "tests/heads")
    before = files_of(tiny)
    found = bench(config, tiny, seconds=0.2)
    assert files_of(tiny) == before
    json.dumps(found)
    rows = found["ways"]
    assert list(rows) == ["joint", "frozen", "ram", "mapped", "sweep"]
    assert found["left_out"] == {}
    assert found["events"] == found["training_events"] == 256
    for row in rows.values():
        assert row["reading"] + row["copies"] + row["compute"] == pytest.approx(1)
        assert row["epoch_s"] == pytest.approx(256 / row["events_per_s"])
        assert row["over_joint"] == pytest.approx(row["events_per_s"] / rows["joint"]["events_per_s"])
        assert row["over_frozen"] == pytest.approx(row["events_per_s"] / rows["frozen"]["events_per_s"])
        assert row["device_memory"] is None
        assert row["memory"] > 0
    assert rows["ram"]["over_joint"] > 1  # a step of the backbone comes on top there
    assert found["prepare"]["bytes"] > 0


def test_few_seconds_measure_some_of_the_events(tiny, monkeypatch):
    monkeypatch.setattr("frz.joint.bench.SAMPLE", 40)
    found = bench(TINY_HEAD, tiny, seconds=0.0)
    assert (found["events"], found["training_events"]) == (40, 256)


def test_without_the_backbone_the_features_alone_are_measured(tiny, tmp_path):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    shutil.rmtree(artifacts / "backbones")
    found = bench(TINY_HEAD, artifacts, seconds=0.0)
    assert list(found["ways"]) == ["ram", "mapped", "sweep"]
    assert set(found["left_out"]) == {"joint", "frozen"}
    assert "no run of backbone 'tiny'" in found["left_out"]["joint"]
    assert "behind" not in found["advice"]


def test_features_of_other_data_are_refused(tiny, tmp_path):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    (artifacts / "datasets/tiny").rename(artifacts / "datasets/other")
    with pytest.raises(IdentityError, match="holds features of tiny@1"):
        bench({**TINY_HEAD, "features": {"backbone": "tiny", "data": "other"}}, artifacts)


@pytest.mark.parametrize(
    ("row", "end"),
    [
        ({"reading": 0.1, "copies": 0.0, "compute": 0.9}, "90% of that is the head's own arithmetic"),
        ({"reading": 0.5, "copies": 0.0, "compute": 0.5}, "50% of that is waiting for batches"),
        ({"reading": 0.1, "copies": 0.5, "compute": 0.4}, "50% of that is copying to the device"),
        ({"over_frozen": 0.9}, "this head gains nothing from stored features"),
    ],
)
def test_the_advice_names_what_the_time_goes_to(row, end):
    shares = {"reading": 0.0, "copies": 0.0, "compute": 1.0}
    cached = {"events_per_s": 1000.0, "epoch_s": 1.0, "over_frozen": 10.0} | shares | row
    rows = {"joint": {"epoch_s": 600.0}, "frozen": {"epoch_s": 10.0}, "ram": cached}
    text = advice(rows, 1000)
    assert text.startswith(
        "20 epochs of 1,000 events take 20 s from stored features (ram), 3.33 min behind the frozen backbone and "
        "3.33 h jointly"
    )
    assert end in text


@pytest.mark.parametrize("rate", [500.0, 2000.0])
def test_the_advice_says_why_a_sweep_is_slower(rate):
    shares = {"reading": 0.0, "copies": 0.0, "compute": 1.0}
    rows = {"ram": {"events_per_s": 1000.0, "epoch_s": 1.0}, "sweep": {"events_per_s": rate, "epoch_s": 1000 / rate}}
    text = advice({way: row | shares for way, row in rows.items()}, 1000)
    assert ("more than alone: a step of this head is arithmetic" in text) == (rate < 1000)


def test_the_advice_is_about_the_fastest_way():
    shares = {"reading": 0.0, "copies": 0.0, "compute": 1.0}
    rates = {"ram": 5.0, "other": 9.0}
    rows = {name: {"events_per_s": rate, "epoch_s": 1 / rate, **shares} for name, rate in rates.items()}
    assert "(other)" in advice(rows, 100)
