"""`frz evaluate` on stored features: the numbers are those of the pieces, and wedges are merged."""

import json
import shutil

import numpy as np
import pytest
from made_up_velo import events, write_archive

from conftest import TINY_BACKBONE, tiny_recipe
from frz import artifacts as names
from frz.data.build import build
from frz.errors import ConfigError, FrzError
from frz.evaluation.hitsets import predicted_tracks, true_tracks
from frz.evaluation.matching import match
from frz.evaluation.run import evaluate
from frz.evaluation.tracking import score
from frz.extract.run import extract
from frz.pretrain import train
from frz.store import EventStore, Split, snapshot


def test_a_backbone_is_measured_on_the_test_split(tiny):
    result = evaluate("backbones/tiny", tiny)
    store = EventStore(*names.features("tiny", tiny))
    events = store.events(store.split("test"))
    assert result["events"] == len(store.split("test"))
    assert result["true_tracks"] == len(events["track/parameters"])
    expected = score(match(predicted_tracks(events), true_tracks(events))).to_json()
    assert result["tracking"] == expected
    for name in ("eta", "phi", "pt"):
        parts = [*result["binned"][name]["bins"], result["binned"][name]["outside"]]
        assert sum(part["total"] for part in parts) == result["true_tracks"]
        assert sum(part["successes"] for part in parts) == expected["efficiency_strict"]["successes"]
    json.dumps(result)


def test_splits_add_up_and_settings_are_checked(tiny):
    totals = [evaluate("backbones/tiny", tiny, {"split": s})["true_tracks"] for s in ("train", "val", "test", "all")]
    assert sum(totals[:3]) == totals[3]
    with pytest.raises(ConfigError, match="no split 'dev'"):
        evaluate("backbones/tiny", tiny, {"split": "dev"})
    with pytest.raises(ConfigError, match="did you mean 'split'"):
        evaluate("backbones/tiny", tiny, {"splt": "test"})


def test_a_head_is_measured_as_in_its_card(tiny):
    result = evaluate("heads/tiny", tiny)
    assert result["metrics"] == names.card(names.head("tiny", tiny).path)["metrics"]["test"]


def test_a_data_set_cannot_be_measured(tiny):
    with pytest.raises(FrzError, match="'datasets/tiny' is a data set, not a backbone"):
        evaluate("datasets/tiny", tiny)


def test_wedges_are_measured_as_collisions(tmp_path):
    velo_archive = write_archive(tmp_path / "events.tar.gz", events(8))
    recipe = {
        "name": "velo",
        "source": {"kind": "velo", "path": str(velo_archive), "wedges": 4, "overlap": 0.2},
        "split": {"fractions": {"train": 0.4, "val": 0.2, "test": 0.4}},
    }
    build(recipe, tmp_path)
    model = {
        "fields": ["x", "y", "z"],
        "dim": 8,
        "heads": 1,
        "num_queries": 20,
        "decoder_layers": 1,
        "encoder_layers": 1,
    }
    train({**TINY_BACKBONE, "name": "velo", "data": "velo", "model": model}, tmp_path)
    extract("velo", tmp_path)
    result = evaluate("backbones/velo", tmp_path, {"split": "all"})
    store = EventStore(*names.features("velo", tmp_path))
    assert result["events"] == len(np.unique(store.array("event/group"))) == store.n_events // 4
    assert result["true_tracks"] == len(store.array("particle/parent_particle"))
    assert result["tracking_long"]["efficiency_strict"]["total"] <= result["true_tracks"]


@pytest.mark.parametrize("target", ["backbones/tiny", "heads/tiny"])
def test_a_report_is_written_beside_the_numbers(tiny, tmp_path, target):
    report = str(tmp_path / "r.html")
    result = evaluate(target, tiny, {"report": report})
    assert result == evaluate(target, tiny) | {"report": report}
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("report", "message"),
    [("muon", "give a file such as .*muon.html"), ("s3://bucket/r.html", "written to this machine alone")],
)
def test_a_report_that_cannot_be_is_refused(tiny, tmp_path, report, message):
    with pytest.raises(ConfigError, match=message):
        evaluate("backbones/tiny", tiny, {"report": report if ":" in report else str(tmp_path / report)})
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_report_is_made(tiny, tmp_path):
    evaluate("heads/tiny", tiny, {"report": str(tmp_path / "plots/today/r.html")})
    assert (tmp_path / "plots/today/r.html").is_file()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"file/r.html: cannot be written \(.*\); give another path"):
        evaluate("heads/tiny", tiny, {"report": str(tmp_path / "file/r.html")})


@pytest.mark.parametrize(("kind", "key"), [("backbones", "backbone"), ("heads", "head")])
def test_what_was_evaluated_is_said_first_and_if_there_is_newer_data(tiny, tmp_path, kind, key):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    (run,) = (artifacts / kind / "tiny").iterdir()
    result = evaluate(f"{kind}/tiny", artifacts)
    assert next(iter(result.items())) == (key, f"tiny@{run.name}")
    assert (result["data"], result["split"]) == ("tiny@1", "test")
    build(tiny_recipe(330), artifacts)
    newer = evaluate(f"{kind}/tiny", artifacts)
    assert newer.pop("note").startswith("data set tiny has version 2, evaluated is version 1; 'frz extract")
    assert newer == result


def test_a_split_without_events_is_refused(tiny, tmp_path):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    root = names.features("tiny", artifacts).path
    whole = Split(fractions={"train": 1.0, "test": 0.0})
    snapshot.commit(root, lambda latest: latest.model_copy(update={"split": whole}))
    with pytest.raises(FrzError, match="split 'test' holds no events; splits: test 0.0, train 1.0"):
        evaluate(f"features/{root.name}", artifacts)


def test_predicted_tracks_are_the_valid_slots_with_enough_hits(tiny):
    few, all_of_them = (evaluate("backbones/tiny", tiny, {"min_hits": n}) for n in (30, 1))
    assert few["valid_slots"] == all_of_them["valid_slots"] == few["slots"]["validity_fakes_of_valid_slots"]["total"]
    assert few["predicted_tracks"] < all_of_them["predicted_tracks"] <= few["valid_slots"]
