"""The report of types in words."""

import json
import shutil
from pathlib import Path

from typer.testing import CliRunner

from frz_cli.fidelity import tables
from frz_cli.main import app


def row(**changes: object) -> dict[str, object]:
    given = {"bytes_per_event": 8.0, "bytes": 800, "error": 0.0, "largest_error": 0.0, "unfit": 0, "head": {}}
    return {**given, **changes}


def test_the_metric_that_changes_most_beside_its_spread_is_named() -> None:
    head = {
        "head": "regression",
        "seeds": 3,
        "metrics": {"q/accuracy": 0.95, "pt/width": 20.0, "pt/bias": 1.0},
        "spread": {"q/accuracy": 0.002, "pt/width": 1.0, "pt/bias": 0.0},
        "main": ["q/accuracy", "pt/width"],
    }
    none = {"q/accuracy": 0.0, "pt/width": 0.0, "pt/bias": 0.0}
    coarse = {"q/accuracy": -0.01, "pt/width": 0.5, "pt/bias": 7.0}
    mixes = {
        "float32": row(head=none),
        "float16": row(head=None, bytes=400),
        "bfloat16": row(head=coarse, bytes=400),
        "asked": row(head=coarse, bytes=600),
    }
    found = tables(
        {
            **{"backbone": "muon", "data": "muon-sim@1", "path": "p", "train_events": 2000, "val_events": 1000},
            "arrays": {"hit/embedding": {dtype: mixes[dtype] for dtype in ("float32", "float16", "bfloat16")}},
            "together": mixes,
            "head": head,
        }
    )
    says = {dtype: row["the head"] for dtype, row in found["arrays"]["hit/embedding"].items()}
    assert says == {
        "float32": "no change",
        "float16": "values do not fit: extraction would refuse",
        "bfloat16": "q/accuracy 0.95 -> 0.94 (seeds ±0.002)",
    }
    assert found["as asked for"] == "75% of the bytes of float32; q/accuracy 0.95 -> 0.94 (seeds ±0.002)"
    assert found["metrics"]["pt/width"] == {"float32": "20 ± 1", "float16": "-", "bfloat16": "+0.5", "asked": "+0.5"}


def test_the_command_reports_and_extracts_nothing(tiny: Path, tmp_path: Path) -> None:
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    shutil.rmtree(artifacts / "features")
    small = [f"fidelity.{key}={n}" for key, n in (("train_events", 60), ("val_events", 20), ("seeds", 2))]
    settings = [word for setting in small for word in ("--set", setting)]
    command = ["extract", "--ckpt", "tiny", "--fidelity", "--artifacts", str(artifacts), *settings]
    result = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    assert report["together"]["float16"]["bytes"] == report["together"]["float32"]["bytes"] // 2
    assert report["head"]["head"] == "regression"
    assert list((artifacts / "features").glob("*/snapshots/*")) == []
    shown = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "arrays.hit/embedding" in shown.stdout
    assert "bfloat16" in shown.stdout
