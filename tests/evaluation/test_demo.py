"""The demo at tiny size: every step, the table, the report, and nothing done twice."""

import json

import pytest

from frz import artifacts
from frz.config import read_yaml
from frz.errors import ConfigError
from frz.evaluation.demo import demo
from frz.evaluation.demo_muon import RECIPE as MUON
from frz.evaluation.settings import DemoSettings
from frz.heads.scores import NAMES
from frz.store import EventStore

TINY = {"n_events": 200, "backbone_epochs": 1, "head_epochs": 1}


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr("frz.evaluation.demo.BENCH_SECONDS", 0.1)


def test_the_demo_runs_reports_and_goes_on(tmp_path):
    result = demo(tmp_path, TINY)
    names = [row["quantity"] for row in result["tracking"]]
    assert names[:2] == ["hit efficiency", "hit purity"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in result["tracking"])
    widths = {row["quantity"]: row for row in result["regression"]}
    assert {"eta/width", "phi/width", "pt/relative_width", "q/accuracy"} <= set(widths)
    assert all(row["training mean"] is not None for row in widths.values())
    rates = result["events_per_second"]
    assert set(rates) == {"joint", "frozen", "cached", "cached_over_joint", "cached_over_frozen"}
    report = (tmp_path / "demo/report.html").read_text()
    assert report.startswith("<!DOCTYPE html>")
    json.dumps(result)
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = demo(tmp_path, TINY)
    assert again["tracking"] == result["tracking"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == weights


def test_the_demo_of_stays_is_judged_beside_the_true_risk(tmp_path):
    result = demo(tmp_path, TINY, "icu")
    rows = {row["quantity"]: row for row in result["classification"]}
    assert set(rows) == set(NAMES)
    assert rows["auc"]["training frequency"] == 0.5
    assert 0.8 < rows["auc"]["true risk"] <= 1
    assert rows["log_loss"]["true risk"] < rows["log_loss"]["training frequency"]
    parts = result["by_icu_type"]
    store = EventStore(*artifacts.dataset("demo-icu", tmp_path))
    assert sum(part["stays"] for part in parts) == len(store.split("test"))
    assert "ROC curve of label" in (tmp_path / "demo-icu/report.html").read_text()
    json.dumps(result)


def test_an_unknown_demo_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no demo of 'moun'; did you mean 'muon'"):
        demo(tmp_path, family="moun")


def test_the_demo_trains_what_is_shipped(project):
    shipped = {
        name: read_yaml(project / f"configs/muon/{name}.yaml")["model"] for name in ("backbone", "head-regression")
    }
    assert MUON.backbone(DemoSettings())["model"] == shipped["backbone"]
    assert MUON.head(DemoSettings())["model"] == shipped["head-regression"]
    assert MUON.sizes == {key: DemoSettings.model_fields[key].default for key in MUON.sizes}
