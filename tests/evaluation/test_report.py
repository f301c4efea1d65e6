"""A report of a small head on a small feature store: what stands in it, and what it refuses."""

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from made_up_tracks import made_up_events

from frz.errors import CheckpointError, ConfigError, StoreError
from frz.evaluation.intervals import Mean, Proportion
from frz.evaluation.report import write_report, written
from frz.evaluation.run import evaluate
from frz.heads.run import train
from frz.store import snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.part import write_part
from frz.store.reader import EventStore
from frz.store.schema import Array, Axis, Schema
from frz.store.snapshot import Snapshot
from frz.store.split import Split

N_QUERY, N_EVENTS = 3, 90
WEIGHTS = "3f2a9c01" * 8
DATA = {"name": "made-up", "version": 1, "hash": "abcdef012345" + "0" * 52}
EPOCHS = [
    {"epoch": 1, "lr": 1e-3, "train/loss": 3.0, "val/loss": 2.5},
    {"epoch": 2, "lr": 5e-4, "train/loss": 2.0, "val/loss": 2.25},
    {"epoch": 3, "lr": 0.0, "train/loss": 1.0, "val/loss": 2.75},
]
SCHEMA = Schema(
    axes={"hit": Axis(), "track": Axis(), "member": Axis(parent="track"), "query": Axis(length=N_QUERY)},
    arrays={
        "event/id": Array(dtype="int64", role="meta"),
        "event/group": Array(dtype="int64", role="meta"),
        "query/embedding": Array(dtype="float32", shape=(4,), role="feature"),
        "query/valid_logit": Array(dtype="float32", role="feature"),
        "query/match": Array(dtype="int32", role="target"),
        "hit/assignment_logit": Array(dtype="float32", shape=(N_QUERY,), role="feature"),
        "member/hit": Array(dtype="int32", role="target", refers_to="hit"),
        "track/parameters": Array(
            dtype="float32", shape=(4,), role="target", unit="GeV, 1, rad, e", columns=("pt", "eta", "phi", "q")
        ),
    },
)


def add_features(root: Path, weights: str = WEIGHTS) -> None:
    rng = np.random.default_rng(0)
    events = made_up_events(0, N_EVENTS, N_QUERY)
    n = int(events["track/offsets"][-1])
    columns = rng.uniform(5, 80, n), rng.normal(size=n), rng.uniform(-3, 3, n), rng.choice([-1.0, 1.0], n)
    events["track/parameters"] = np.stack(columns, 1).astype(np.float32)
    events["query/embedding"] = rng.normal(size=(N_EVENTS * N_QUERY, 4)).astype(np.float32)
    snapshot.prepare_root(root)
    record = write_part(root, "events", "0" * 64, SCHEMA, events)
    about = {
        "fingerprint": {"value": weights},
        "backbone": {"name": "made-up", "checkpoint": ""},
        "data": DATA,
        "recipe": {"precision": "fp32"},
        "made_with": {},
    }
    parts = Catalogue.of([entry({"events": record})])
    made = Snapshot(name=root.name, event_schema=SCHEMA, split=Split(), parts=parts, about=about)
    snapshot.commit(root, lambda latest: made)


def add_backbone(run: Path) -> None:
    run.mkdir(parents=True)
    card = {
        **{"name": "made-up", "family": "hit_track", "data": DATA, "fingerprint": WEIGHTS, "finished": True},
        **{"parameters": 12345, "epochs": 3, "steps": 30, "stopped_early": True, "versions": {"torch": "2.0"}},
        **{"created": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T01:00:00+00:00"},
    }
    (run / "card.json").write_text(json.dumps(card))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in EPOCHS))
    (run / "config.yaml").write_text("name: made-up\nmodel: {dim: 4}\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Artifacts with features, a backbone's run and a trained head. Tests that change them take `artifacts`."""
    root = tmp_path_factory.mktemp("artifacts")
    add_features(root / "features" / f"made-up-{WEIGHTS[:8]}")
    add_backbone(root / "backbones" / "made-up" / "0caed4ab")
    config = {
        "name": "kinematics",
        "head": "regression",
        "features": {"backbone": "made-up", "data": "made-up"},
        "model": {"hit_nets": [], "inverse_fields": ["pt"], "bce_fields": ["q"]},
        "trainer": {"max_epochs": 2, "batch_size": 32},
    }
    train(config, root)
    return root


@pytest.fixture
def artifacts(made, tmp_path):
    """A copy of the runs, so that they can be changed; the features stay where they are."""
    for run in (*made.glob("backbones/*/*"), *made.glob("heads/*/*")):
        copy = tmp_path / "artifacts" / run.relative_to(made)
        copy.mkdir(parents=True)
        for file in run.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
    return tmp_path / "artifacts"


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the drawing, which takes most of the time, where the test is about words."""
    monkeypatch.setattr("frz.evaluation.page.png", lambda figure: b"")


def text_of(path: Path) -> str:
    html = re.sub(r"<style>.*?</style>", "", path.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_a_whole_report_and_the_same_again(made, tmp_path):
    path = tmp_path / "new" / "folder" / "report.html"
    tracking = evaluate("backbones/made-up", made)
    write_report(path, "all of it", made, backbone="made-up", head="kinematics", tracking=tracking)
    html, text = path.read_text(encoding="utf-8"), text_of(path)
    assert html.startswith("<!DOCTYPE html>")
    assert "<script" not in html
    assert set(re.findall(r'(?:src|href)="([^"]{5})', html)) <= {"data:", "#s0", "#s1", "#s2", "#s3"}
    # Training curves; efficiencies; four plots of three numbers and two of the charge.
    assert html.count("<img") == 2 + 3 + 3 * 4 + 2
    store = EventStore(made / "features" / f"made-up-{WEIGHTS[:8]}")
    test = store.split("test")
    assert "made-up version 1 (hash abcdef012345)" in text
    assert f"version 1 (hash {store.snapshot.hash[:12]}), {N_EVENTS} events, written by weights {WEIGHTS[:12]}" in text
    assert "made-up@0caed4ab: hit_track, best weights" in text
    assert "12,345 parameters, 3 epochs (30 steps, stopped early)" in text
    assert next(made.glob("heads/kinematics/*")).name in text
    assert "model: {dim: 4}" in text
    assert "not of one descent" not in text
    assert f"Split 'test': {len(test)} events. No backbone is run" in text
    efficiency = tracking["tracking"]["efficiency_strict"]
    assert f"{efficiency['successes']} of {efficiency['total']}" in text
    assert "The weights of epoch 2 are the ones measured here." in text
    assert not list(path.parent.glob(".*"))
    write_report(tmp_path / "again.html", "all of it", made, backbone="made-up", head="kinematics", tracking=tracking)
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_the_numbers_of_the_head_are_those_of_its_card(made, tmp_path):
    write_report(tmp_path / "r.html", "head", made, head="kinematics")
    text = text_of(tmp_path / "r.html")
    card = json.loads(next(made.glob("heads/kinematics/*/card.json")).read_text())
    metrics = card["metrics"]["test"]
    for key in ("eta/width", "pt/relative_width", "q/accuracy"):
        assert f"{metrics['head'][key]:.4g} {metrics['training_mean'][key]:.4g}" in text, key
    assert "Tracking" not in text
    assert "Stage 1" not in text


def test_a_report_of_tracking_alone(made, tmp_path):
    tracking = evaluate("backbones/made-up", made, {"split": "all"})
    write_report(tmp_path / "r.html", "tracking", made, tracking=tracking)
    text = text_of(tmp_path / "r.html")
    assert f"Split 'all': {N_EVENTS} events, {tracking['true_tracks']} true tracks" in text
    assert "Stage" not in text
    assert (tmp_path / "r.html").read_text().count("<img") == 3


@pytest.mark.usefixtures("undrawn")
def test_long_tracks_and_unknown_numbers_have_their_rows(made, tmp_path):
    tracking = evaluate("backbones/made-up", made)
    tracking["tracking_long"] = {
        "efficiency_strict": Proportion(3, 7).to_json(),
        "new_one": Mean(0.5, 0.1, 9).to_json(),
    }
    tracking["binned"] = {}
    write_report(tmp_path / "r.html", "tracking", made, tracking=tracking)
    text = text_of(tmp_path / "r.html")
    assert "long tracks" in text
    assert "3 of 7" in text
    assert "new one 0.50 ± 0.10 9" in text
    assert "no eta, phi or pT to bin by" in text


@pytest.mark.usefixtures("undrawn")
def test_a_split_of_choice(made, tmp_path):
    write_report(tmp_path / "r.html", "all", made, head="kinematics", split="all")
    assert f"Split 'all': {N_EVENTS} events" in text_of(tmp_path / "r.html")
    with pytest.raises(ConfigError, match="no split 'tset'"):
        write_report(tmp_path / "r.html", "all", made, head="kinematics", split="tset")


@pytest.mark.usefixtures("undrawn")
def test_weights_of_two_kinds_are_told(artifacts, tmp_path):
    card = next(artifacts.glob("backbones/*/*/card.json"))
    card.write_text(card.read_text().replace(WEIGHTS, "0123456789ab" * 5))
    write_report(tmp_path / "r.html", "mixed", artifacts, backbone="made-up", head="kinematics")
    text = text_of(tmp_path / "r.html")
    assert "not of one descent" in text
    assert f"the features of the head: {WEIGHTS[:12]}; the backbone: 0123456789ab" in text


@pytest.mark.usefixtures("undrawn")
def test_the_last_weights_are_called_so(artifacts, tmp_path):
    run = next(artifacts.glob("heads/kinematics/*"))
    write_report(tmp_path / "r.html", "last", artifacts, head=str(run / "last.safetensors"))
    text = text_of(tmp_path / "r.html")
    assert "regression, last weights" in text
    assert "The weights of epoch 2 are the ones measured here." in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_metrics_is_a_sentence_and_a_damaged_one_an_error(artifacts, tmp_path):
    metrics = next(artifacts.glob("backbones/*/*/metrics.jsonl"))
    metrics.write_text('{"epoch": 1}\n{"epo')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: not JSON lines"):
        write_report(tmp_path / "r.html", "t", artifacts, backbone="made-up")
    assert not (tmp_path / "r.html").exists()
    metrics.unlink()
    write_report(tmp_path / "r.html", "t", artifacts, backbone="made-up")
    assert "Stage 1: the backbone: the run has left no metrics.jsonl." in text_of(tmp_path / "r.html")


@pytest.mark.usefixtures("undrawn")
def test_without_a_validation_split_the_training_loss_decides(artifacts, tmp_path):
    lines = [{**line, "val/loss": None} for line in EPOCHS]
    metrics = next(artifacts.glob("backbones/*/*/metrics.jsonl"))
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_report(tmp_path / "r.html", "t", artifacts, backbone="made-up")
    assert "The weights of epoch 3 are the ones measured here." in text_of(tmp_path / "r.html")


def test_what_cannot_be_written_is_refused_before_any_work(made, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a folder"):
        write_report(tmp_path, "t", made, backbone="no such backbone")
    with pytest.raises(ConfigError, match=r"file/report\.html: cannot be written"):
        write_report(tmp_path / "file" / "report.html", "t", made, backbone="no such backbone")
    assert (tmp_path / "file").read_text() == "mine"


def test_missing_artifacts_are_named(made, tmp_path):
    for names in ({"backbone": "nope"}, {"head": "nope"}):
        with pytest.raises(CheckpointError, match="nope"):
            write_report(tmp_path / "r.html", "t", made, **names)
    with pytest.raises(StoreError, match="no event store here"):
        write_report(tmp_path / "r.html", "t", made, tracking={"features": str(tmp_path / "gone")})


def test_a_full_disk_leaves_the_old_report(made, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(StoreError, match="no space left"):
        write_report(path, "t", made, backbone="made-up")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("number", "texts"),
    [
        (Proportion(50, 100).to_json(), ("0.500 +0.050 −0.050", "50 of 100")),
        (Proportion(2000, 2000).to_json(), ("1.00000 +0.00000 −0.00050", "2,000 of 2,000")),
        (Proportion(0, 0).to_json(), ("undefined", "0 of 0")),
        (Mean(0.25, 0.015, 1200).to_json(), ("0.250 ± 0.015", "1,200")),
        (Mean.of(np.array([0.5])).to_json(), ("0.5", "1")),
        (Mean.of(np.zeros(0)).to_json(), ("undefined", "0")),
        (0.98765, ("0.9877", "")),
        (None, ("undefined", "")),
    ],
)
def test_numbers_are_written_with_interval_and_counts(number, texts):
    assert written(number) == texts
