"""The demo at tiny size: every step, the table, the report, and nothing done twice."""

import json

from frz.config import read_yaml
from frz.evaluation.demo import demo
from frz.evaluation.demo_muon import RECIPE as MUON
from frz.evaluation.settings import DemoSettings

TINY = {"n_events": 300, "backbone_epochs": 1, "head_epochs": 1}


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


def test_the_demo_trains_what_is_shipped(project):
    shipped = {
        name: read_yaml(project / f"configs/muon/{name}.yaml")["model"] for name in ("backbone", "head-regression")
    }
    assert MUON.backbone(DemoSettings())["model"] == shipped["backbone"]
    assert MUON.head(DemoSettings())["model"] == shipped["head-regression"]
    assert MUON.sizes == {key: DemoSettings.model_fields[key].default for key in MUON.sizes}
