"""Heads on stays from simulation to predictions: chosen by exact areas, on features that stay as they are."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from frz import artifacts as names
from frz.config import read_yaml
from frz.data.build import build
from frz.evaluation.compare import compare
from frz.evaluation.run import evaluate
from frz.extract.run import extract
from frz.heads.run import train
from frz.joint.predict import predict
from frz.pretrain import train as train_backbone
from frz.store import EventStore
from frz.sweep.run import sweep

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "icu"
BACKBONE = {
    "name": "icu",
    "family": "set_sequence",
    "data": "stays",
    "model": {"dim": 8, "heads": 2, "sequence_heads": 2, "set_levels": 1, "sequence_layers": 1},
    "trainer": {"max_epochs": 1, "batch_size": 32, "device": "cpu"},
}


def config(name: str, **more):
    """A shipped config for the small features here, briefly trained."""
    values = read_yaml(CONFIGS / f"head-{name}.yaml")
    trainer = {**values["trainer"], "max_epochs": 2, "device": "cpu", **more}
    return {**values, "features": {"backbone": "icu", "data": "stays"}, "trainer": trainer}


@pytest.fixture(scope="module")
def stays(tmp_path_factory):
    """Artifacts with features of 240 stays, some of them without a set."""
    artifacts = tmp_path_factory.mktemp("stays")
    source = {"kind": "icu_sim", "n_events": 240, "gap": 240.0, "empty": 0.05, "intercept": -1.0}
    build(
        {"name": "stays", "source": source, "split": {"fractions": {"train": 0.6, "val": 0.2, "test": 0.2}}}, artifacts
    )
    train_backbone(BACKBONE, artifacts)
    extract("icu", artifacts)
    return artifacts


@pytest.fixture
def mine(stays, tmp_path):
    return shutil.copytree(stays, tmp_path / "artifacts")


def digests(root: Path) -> dict[str, str]:
    """Of every file below a folder."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lines_of(card, artifacts):
    text = (artifacts / "heads" / card["path"].rpartition("heads/")[2] / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_training_heads_leaves_the_backbone_bit_for_bit_and_never_loads_it(fresh_python, mine):
    before = digests(mine / "backbones"), digests(mine / "features")
    code = f"""
import json, sys
from pathlib import Path
from frz.heads.run import train
for config in json.loads({json.dumps(json.dumps([config(name) for name in ("fast", "old", "mil")]))}):
    train(config, Path({str(mine)!r}))
assert not [name for name in sys.modules if name.startswith("frz.backbones")], sorted(sys.modules)
"""
    done = fresh_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert (digests(mine / "backbones"), digests(mine / "features")) == before
    about = EventStore(names.features("icu", mine).path).snapshot.about
    assert about["fingerprint"]["value"] == names.card(names.backbone("icu", mine).path)["fingerprint"]


def test_the_area_that_decides_is_that_of_all_pairs_of_validation_stays(mine):
    card = train(config("fast", batch_size=16), mine)
    lines = lines_of(card, mine)
    assert [line["epoch"] for line in lines] == [0.5, 1, 1.5, 2]
    best = max(line["val/auc"] for line in lines)
    assert card["epoch_metrics"]["best"]["val/auc"] == best == card["epoch_metrics"]["best"]["val/label/auc"]
    parquet = pytest.importorskip("pyarrow.parquet", reason="predictions are tables: pip install 'frz[parquet]'")
    predict("icu-fast", mine, "stays", mine / "said.parquet")
    said = parquet.read_table(mine / "said.parquet").to_pydict()
    assert len(said["event_label_probability"]) == 240
    probability = dict(zip(said["event_id"], said["event_label_probability"], strict=True))
    store = EventStore(names.features("icu", mine).path)
    events = store.events(store.split("val"), ["event/id", "event/label"])
    found = np.array([probability[stay] for stay in events["event/id"]])
    assert ((found > 0) & (found < 1)).all()
    upper, lower = (found[events["event/label"] == label] for label in (1, 0))
    pairs = (upper[:, None] > lower) + (upper[:, None] == lower) / 2
    assert best == pytest.approx(pairs.mean(), abs=1e-9)


@pytest.mark.parametrize("name", ["old", "mil", "w2"])
def test_where_stays_lie_changes_no_bit(mine, name):
    cards = [
        train({**config(name), "name": mode, "loading": {"residency": mode}}, mine)
        for mode in ("ram", "mapped", "device")
    ]
    assert cards[0]["metrics"]["test"]["head"]["events"] > 30
    assert all(card["metrics"] == cards[0]["metrics"] for card in cards[1:])


def test_a_sweep_stacks_heads_that_are_judged_by_their_area(mine):
    found = sweep(
        {"name": "try", "base": config("mean"), "over": {"trainer.lr": [1e-3, 2e-3]}, "seeds": 2}, mine, "sweep.yaml"
    )
    assert (found["heads_trained"], found["largest_stack"]) == (4, 4)
    assert all(0 < row["val/label/auc"] <= 1 for row in found["heads"])


def test_heads_are_evaluated_and_compared(mine):
    for name in ("linear", "w2"):
        train(config(name), mine)
    told = evaluate("icu-w2", mine)
    assert 0 <= told["metrics"]["head"]["label/auc"] <= 1
    both = compare(["icu-linear", "icu-w2"], mine, n=50)
    assert "label/auc" in both["metrics"]
