"""Every kind of fault, brought upon features and a data set in several versions: found, mended, and all as before."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from typer.testing import CliRunner

from conftest import tiny_recipe
from frz import artifacts as names
from frz.data.add import add
from frz.data.build import build
from frz.extract.run import extract
from frz.store import snapshot
from frz_cli.main import app
from store import faults

ROUNDS = 2
"""Faults of each kind and store."""


def frz(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def grown(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifacts: a second version with more events, a third one with a label."""
    artifacts = shutil.copytree(tiny, tmp_path_factory.mktemp("grown") / "artifacts")
    table = artifacts / "labels.csv"
    for change in (lambda: build(tiny_recipe(370), artifacts), lambda: add("tiny", table, artifacts)):
        ids = np.arange(370)
        pandas.DataFrame({"id": ids, "charge": np.where(ids % 7, ids / 2, np.nan)}).to_csv(table, index=False)
        change()
        extract("tiny", artifacts, settings={"dtype": "float32"})
    return artifacts


@pytest.fixture(autouse=True)
def _no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def content(root: Path) -> dict[str, bytes]:
    """Every file of a store but leases and journal."""
    files = (path for path in root.rglob("*") if path.is_file())
    found = {str(path.relative_to(root)): path.read_bytes() for path in files}
    return {path: raw for path, raw in found.items() if not path.startswith("journal/")}


@pytest.mark.parametrize("kind", faults.KINDS)
@pytest.mark.parametrize("of", ["features", "datasets"])
def test_a_fault_is_found_and_mended(grown: Path, of: str, kind: str) -> None:
    store = names.features("tiny", grown).path if of == "features" else grown / "datasets/tiny"
    before = content(store)
    journal = {path: path.read_bytes() for path in store.glob("journal/*")}
    for number in range(ROUNDS):
        rng = np.random.default_rng([number, len(kind), len(of)])
        try:
            fault = faults.KINDS[kind](rng, store)
        except ValueError:  # there is no file of this kind
            assert (of, kind) in [("features", "static array"), ("features", "journal record")]
            return
        found = frz("verify", str(store), "--json")
        damages = json.loads(found.stdout)
        assert {damage["path"] for damage in damages["damages"] + damages["warnings"]} == fault.paths
        assert found.exit_code == (1 if damages["damages"] else 0)
        done = frz("repair", str(store), "--artifacts", str(grown), "--json")
        assert done.exit_code == 0, done.output
        outcomes = json.loads(done.stdout)["outcomes"]
        assert outcomes
        assert all(outcome["repaired"] and outcome["same"] for outcome in outcomes)
        assert frz("verify", str(store)).stdout.startswith("whole: version 1, 2, 3")
        assert content(store) == before
        for path, raw in journal.items():
            path.write_bytes(raw)
    assert snapshot.read(store).version == 3
