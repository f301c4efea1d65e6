"""Extraction: only what is missing, never of other weights, and the same bytes again."""

import json
import shutil

import numpy as np
import pytest
import torch

from conftest import TINY_BACKBONE, tiny_recipe
from frz import artifacts as names
from frz import progress
from frz.data.build import build
from frz.errors import CheckpointError, ConfigError, IdentityError, StoreError
from frz.extract import canary, engine
from frz.extract.opening import open_both
from frz.extract.run import extract
from frz.inventory import describe_store
from frz.loading.batch import to_batch
from frz.pretrain import train
from frz.store import EventStore, part, snapshot
from frz.store.gc import collect
from frz.store.verify import verify
from frz.training import checkpoint

FP32 = {"dtype": "float32"}


@pytest.fixture
def mine(tiny, tmp_path):
    """A copy of the tiny artifacts that a test may change."""
    return shutil.copytree(tiny, tmp_path / "artifacts")


def features(artifacts) -> EventStore:
    return EventStore(*names.features("tiny", artifacts))


def test_features_are_the_forward_pass_of_each_event(tiny):
    frozen, source = open_both(names.weights("tiny", tiny), tiny)
    store = features(tiny)
    np.testing.assert_array_equal(store.array("event/id"), source.array("event/id"))
    np.testing.assert_array_equal(store.array("event/key"), source.array("event/key"))
    np.testing.assert_array_equal(store.array("track/parameters"), source.array("track/parameters"))
    for event in (0, 17, source.n_events - 1):
        batch = to_batch(source.events(np.array([event]), frozen.module.inputs), source.schema)
        with torch.inference_mode():
            alone = frozen.module(batch)
        stored = store.events(np.array([event]))
        for name in frozen.module.outputs:
            np.testing.assert_allclose(stored[name], alone[name].numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_running_again_runs_nothing(tiny, monkeypatch):
    monkeypatch.setattr(engine, "forward", None)  # any forward pass would fail
    result = extract("tiny", tiny, settings=FP32)
    assert (result["version"], result["events_run"], result["events_taken"]) == (1, 0, 320)


def test_only_missing_parts_run_and_the_bytes_are_the_same(mine, monkeypatch):
    before = features(mine)
    digest = before.snapshot.hash
    key = before.snapshot.parts[3].groups["features"][0].key
    shutil.rmtree(before.root / "events.zarr" / part.part_name("features", key))
    result = extract("tiny", mine, settings=FP32)
    first, last = before.part_bounds[3:5].tolist()
    assert result["events_run"] == last - first
    assert features(mine).snapshot.hash == digest


def test_a_new_version_of_the_data_set_runs_its_new_events_only(mine):
    build(tiny_recipe(480), mine)
    result = extract("tiny", mine, settings=FP32)
    assert (result["data"], result["version"], result["events"]) == ("tiny@2", 2, 480)
    assert 160 <= result["events_run"] < 480
    old = EventStore(names.features("tiny", mine).path, 1)
    np.testing.assert_array_equal(features(mine).range(0, 64)["query/embedding"], old.range(0, 64)["query/embedding"])


def test_a_store_of_other_weights_is_refused_with_both_fingerprints(mine):
    other = train({**TINY_BACKBONE, "name": "other", "trainer": {**TINY_BACKBONE["trainer"], "seed": 1}}, mine)
    root = names.features("tiny", mine).path
    mine_fp = features(mine).snapshot.about["fingerprint"]["value"]
    with pytest.raises(IdentityError) as caught:
        extract("other", mine, settings={"out": str(root)})
    message = str(caught.value)
    assert mine_fp[:12] in message
    assert other["fingerprint"][:12] in message
    assert "tensors (" in message
    assert names.versions(root) == [1]


@pytest.mark.parametrize("key", ["batch_size", "max_members"])
@pytest.mark.parametrize("value", [0, -5])
def test_batches_that_cannot_be_are_refused(tiny, key, value):
    with pytest.raises(ConfigError, match=rf"^extract: {key} = {value}: should be greater than or equal to 1$"):
        extract("tiny", tiny, settings={key: value})


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_is_no_place_for_features_is_refused(tiny, tmp_path, dry_run):
    data, file = names.dataset("tiny", tiny).path, tmp_path / "head.yaml"
    file.write_text("")
    with pytest.raises(IdentityError, match=r"holds a data set, not features; .*--set out=DIR"):
        extract("tiny", tiny, settings={"out": data}, dry_run=dry_run)
    with pytest.raises(ConfigError, match=r"head.yaml: is a file; .*--set out=DIR"):
        extract("tiny", tiny, settings={"out": file}, dry_run=dry_run)


def test_float16_is_the_default_and_other_types_are_other_features(mine):
    differs = r"hit/embedding \(float32\[8\] there, float16\[8\] asked for\)"
    with pytest.raises(IdentityError, match=f"{differs}.*To redo: 320 events"):
        extract("tiny", mine)
    result = extract("tiny", mine, settings={"out": str(mine / "half")})
    store = EventStore(result["path"])
    assert store.schema.arrays["hit/embedding"].dtype == "float16"
    assert store.schema.arrays["hit/assignment_logit"].dtype == "float32"
    exact = features(mine)
    np.testing.assert_allclose(store.array("hit/embedding"), exact.array("hit/embedding"), atol=2e-3)


def test_a_packed_store_of_bfloat16_holds_what_is_computed_and_a_new_codec_costs_nothing(mine, monkeypatch, capsys):
    chosen = {"out": str(mine / "short"), "codec": "archive"}
    store = EventStore(extract("tiny", mine, settings=chosen)["path"])
    rounded = torch.from_numpy(features(mine).array("hit/embedding")).bfloat16().float().numpy()
    found = store.array("hit/embedding")
    assert (store.schema.arrays["hit/embedding"].dtype, found.dtype) == ("bfloat16", np.float32)
    np.testing.assert_allclose(found, rounded, rtol=2**-7)  # another batch may round to the neighbour
    assert not (found.view(np.uint32) & 0xFFFF).any()
    hits, one = store.range(0, 320, ["hit/embedding"])["hit/offsets"], store.events([200])["hit/embedding"]
    np.testing.assert_array_equal(one, found[hits[200] : hits[201]])
    monkeypatch.setattr(engine, "forward", None)  # any forward pass would fail
    other = chosen | {"codec": "compact", "dtype": {"*/embedding": "bfloat16", "*logit": "bfloat16"}}
    progress.show("lines")
    result = extract("tiny", mine, settings=other)
    assert (result["version"], result["events_run"]) == (1, 0)
    assert "another codec than before is for new parts; to pack all anew, give --set out=DIR" in capsys.readouterr().err
    assert result["stored_bytes"] < result["bytes"]
    told = describe_store(store.root, 1)["arrays"]["hit/embedding"]
    assert (told["codec"], told["bytes"]) == ("archive", store.nbytes("hit/embedding"))


def test_annotations_are_redone_without_a_forward_pass(mine, monkeypatch):
    before = features(mine)
    key = before.snapshot.parts[0].groups["annotation"][0].key
    shutil.rmtree(before.root / "events.zarr" / part.part_name("annotation", key))
    monkeypatch.setattr(engine, "forward", None)
    extract("tiny", mine, settings=FP32)
    assert features(mine).snapshot.hash == before.snapshot.hash


def test_a_checkpoint_of_another_shape_lists_the_tensors(mine):
    path = names.weights("tiny", mine)
    tensors, meta = checkpoint.load(path)
    name = next(n for n, t in tensors.items() if t.ndim == 2)
    tensors[name] = tensors[name][:, :-1]
    tensors["extra.weight"] = torch.zeros(2)
    checkpoint.save(path, tensors, meta)
    with pytest.raises(CheckpointError) as caught:
        extract("tiny", mine)
    assert name in str(caught.value)
    assert "extra.weight" in str(caught.value)


def test_tensors_of_a_head_are_left_out_by_name(mine):
    path = names.weights("tiny", mine)
    tensors, meta = checkpoint.load(path)
    checkpoint.save(path, {**tensors, "head.net.weight": torch.zeros(2)}, meta)
    assert extract("tiny", mine, settings=FP32)["events_run"] == 0


def test_weights_that_were_changed_after_training_are_refused(mine):
    path = names.weights("tiny", mine)
    tensors, meta = checkpoint.load(path)
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 1
    checkpoint.save(path, tensors, meta)
    with pytest.raises(IdentityError, match="changed after training"):
        extract("tiny", mine)


def test_a_data_set_of_another_layout_is_refused(mine):
    source = mine / "datasets/tiny"
    found = snapshot.read(source)
    raw = found.event_schema.arrays["hit/raw"]
    renamed = raw.model_copy(update={"columns": (*raw.columns[:-1], "colour")})
    schema = found.event_schema.model_copy(update={"arrays": {**found.event_schema.arrays, "hit/raw": renamed}})
    snapshot.commit(source, lambda latest: found.model_copy(update={"event_schema": schema}))
    with pytest.raises(IdentityError, match=r"hit/raw.*colour"):
        extract("tiny", mine)


def test_a_damaged_data_set_is_named_and_nothing_is_committed(mine):
    shutil.rmtree(names.features("tiny", mine).path)
    file = sorted((mine / "datasets/tiny/events.zarr").rglob("hit/raw/c/0/0"))[5]
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StoreError, match="hit/raw/c/0/0.*100 bytes"):
        extract("tiny", mine)
    stores = list((mine / "features").iterdir())
    assert all(names.versions(store) == [] for store in stores)


def test_snapshots_say_where_features_come_from(tiny):
    about = features(tiny).snapshot.about
    card = json.loads(next((tiny / "backbones/tiny").glob("*/card.json")).read_text())
    assert about["fingerprint"]["value"] == card["fingerprint"]
    assert about["backbone"]["data"] == card["data"]
    assert about["data"].items() <= card["data"].items()
    assert about["recipe"]["precision"] == "fp32"
    assert set(about["fingerprint"]["tensors"]) == set(checkpoint.load(names.weights("tiny", tiny))[0])


def test_nothing_goes_from_under_an_extraction_before_its_version_is_there(mine, monkeypatch):
    root = names.features("tiny", mine).path
    shutil.rmtree(root)
    measure, reports = canary.measure, []

    def and_collect(*args):
        reports.append(collect(root, grace=0, delete=True))
        return measure(*args)

    monkeypatch.setattr(canary, "measure", and_collect)
    extract("tiny", mine, settings=FP32)
    assert reports[0].garbage == []
    assert reports[0].live != []
    assert verify(root).damages == []


def test_an_extraction_that_was_stopped_for_long_does_not_commit(mine, monkeypatch):
    root = names.features("tiny", mine).path
    shutil.rmtree(root)
    measure = canary.measure

    def stop_for_long(*args):
        for lease in (root / "leases").glob("*.json"):
            lease.unlink()
        return measure(*args)

    with monkeypatch.context() as patch:
        patch.setattr(canary, "measure", stop_for_long)
        with pytest.raises(StoreError, match="stopped for too long.*run the same command again"):
            extract("tiny", mine, settings=FP32)
    assert names.versions(root) == []
    assert extract("tiny", mine, settings=FP32)["events_run"] == 0
