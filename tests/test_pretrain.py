"""Stage-1 runs: the same command resumes or reports, and a model that cannot hold the events is refused first."""

import json
import shutil

import numpy as np
import pytest
import torch

from conftest import TINY_BACKBONE
from frz import artifacts as names
from frz.errors import ConfigError, StoreError, TrainingError
from frz.lineage import Fingerprint, differences
from frz.loading.frozen import FrozenBackbone
from frz.pretrain import train, without_overflow
from frz.store import EventStore
from frz.training import checkpoint


def trainer(**changes):
    return {**TINY_BACKBONE, "trainer": {**TINY_BACKBONE["trainer"], **changes}}


def test_a_finished_run_is_reported_and_not_repeated(tiny):
    before = {path: path.stat().st_mtime_ns for path in (tiny / "backbones/tiny").rglob("*.safetensors")}
    again = train(TINY_BACKBONE, tiny)
    assert again["finished"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_checkpoint_says_what_it_is(tiny):
    run = names.backbone("tiny", tiny)
    tensors, meta = checkpoint.load(run.path / "best.safetensors")
    card = json.loads((run.path / "card.json").read_text())
    frozen = FrozenBackbone(run.path / "best.safetensors", torch.device("cpu"))
    assert meta["fingerprint"] == card["fingerprint"] == frozen.fingerprint.value
    assert meta["backbone"]["data"] == card["data"] == {**card["data"], "name": "tiny", "version": 1}
    assert meta["backbone"]["model"]["dim"] == 8
    assert frozen.n_parameters == card["parameters"] == sum(p.numel() for p in frozen.module.parameters())
    assert not any(p.requires_grad for p in frozen.module.parameters())
    assert set(tensors) == set(frozen.module.state_dict())


def test_constants_are_measured_on_the_training_split_alone(tiny):
    store = EventStore(tiny / "datasets/tiny")
    raw = store.events(store.split("train"), ["hit/raw"])["hit/raw"]
    columns = store.schema.arrays["hit/raw"].columns
    frozen = FrozenBackbone(names.weights("tiny", tiny), torch.device("cpu"))
    found = [b.numpy() for name, b in frozen.module.named_buffers() if name.endswith("mean")]
    expected = raw[:, columns.index("driftR")].astype(np.float64).mean()
    whole = store.array("hit/raw")[:, columns.index("driftR")].astype(np.float64).mean()
    assert len(found) == 1
    np.testing.assert_allclose(found[0][3], expected, rtol=1e-5)
    assert abs(found[0][3] - whole) > 1e-4


def test_a_changed_config_is_a_new_run_and_device_is_no_change(tiny, tmp_path):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    train(trainer(seed=1), artifacts)
    train(trainer(checkpoint_minutes=1.0), artifacts)
    assert len(list((artifacts / "backbones/tiny").iterdir())) == 2


def test_an_interrupted_run_ends_in_the_same_weights(tiny, tmp_path, monkeypatch):
    from frz.backbones.hit_track.model import HitTrack

    whole = train({**trainer(max_epochs=2), "name": "whole"}, shutil.copytree(tiny, tmp_path / "a"))
    artifacts = shutil.copytree(tiny, tmp_path / "b")
    loss, calls = HitTrack.loss, []

    def stopping(self, batch):
        calls.append(batch)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(HitTrack, "loss", stopping)
    again = {**trainer(max_epochs=2, checkpoint_minutes=0), "name": "whole"}
    with pytest.raises(KeyboardInterrupt):
        train(again, artifacts)
    (folder,) = (artifacts / "backbones/whole").iterdir()
    assert names.card(folder)["finished"] is False
    began = "2026-01-01T00:00:00+00:00"
    (folder / "card.json").write_text(json.dumps({"finished": False, "created": began}))
    monkeypatch.setattr(HitTrack, "loss", loss)
    resumed = train(again, artifacts)
    assert whole["status"] == "trained"
    assert resumed["status"] == "resumed after epoch 1, step 7"
    assert resumed["created"] == began
    finished = train(again, artifacts)
    assert finished == resumed | {"status": "finished before: nothing to do"}
    assert list(finished) == list(resumed)  # in the order it was made
    assert resumed["fingerprint"] == whole["fingerprint"]


def test_more_tracks_than_queries_are_settled_before_training(tiny, tmp_path):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    values = {**TINY_BACKBONE, "name": "one", "model": {**TINY_BACKBONE["model"], "num_queries": 1}}
    with pytest.raises(TrainingError, match=r"\d+ of 320 events.*num_queries.*skip_event"):
        train(values, artifacts)
    store = EventStore(artifacts / "datasets/tiny")
    skipping = train({**values, "overflow": "skip_event"}, artifacts)
    single = store.lengths("track") <= 1
    assert skipping["events"] == {name: int(single[store.split(name)].sum()) for name in ("train", "val")}


def test_without_overflow_keeps_everything_that_fits(tiny):
    store = EventStore(tiny / "datasets/tiny")
    frozen = FrozenBackbone(names.weights("tiny", tiny), torch.device("cpu"))
    positions = store.split("val")
    np.testing.assert_array_equal(without_overflow(frozen.module, store, positions, "error"), positions)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"family": "hit_trak"}, ConfigError, "did you mean 'hit_track'"),
        ({"familly": "hit_track"}, ConfigError, "did you mean 'family'"),
        ({"model": {"dimm": 8}}, ConfigError, "did you mean 'dim'"),
        ({"model": {"fields": ["driftr"]}}, ConfigError, "driftR"),
        ({"trainer": {"max_epoch": 1}}, ConfigError, "did you mean 'max_epochs'"),
        ({"data": "tini"}, StoreError, "did you mean 'tiny'"),
        ({"data": "tiny@7"}, StoreError, "no version '7'"),
    ],
)
def test_mistakes_are_one_line_that_names_the_way_out(tiny, change, error, message):
    with pytest.raises(error, match=message) as caught:
        train({**TINY_BACKBONE, **change}, tiny)
    assert "\n" not in str(caught.value)


def test_differences_name_family_config_and_tensors():
    one = Fingerprint(value="1", family="a", config={"dim": 8, "x": 1}, tensors={"w": "0", "b": "0"})
    other = Fingerprint(value="2", family="b", config={"dim": 16, "x": 1}, tensors={"w": "1", "b": "0"})
    assert differences(one, other) == "family (a / b); config keys dim; 1 of 2 tensors (w)"
    assert differences(one, one) == "nothing"


def test_a_damaged_card_is_written_anew(tiny, tmp_path):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    run = names.backbone("tiny", artifacts).path
    whole = names.card(run)
    (run / "card.json").write_text("garbage")
    assert names.card(run) == {}
    assert train(TINY_BACKBONE, artifacts)["fingerprint"] == whole["fingerprint"]
    assert names.card(run)["finished"]
