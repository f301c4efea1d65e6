"""Events that a backbone was trained on are counted where another split holds them out, and the line says so."""

import shutil

import numpy as np
import pytest

from conftest import TINY_HEAD, tiny_recipe
from frz import artifacts as names
from frz import seen
from frz.data.build import build
from frz.evaluation.compare import compare
from frz.evaluation.run import evaluate
from frz.extract.run import extract
from frz.heads.run import train
from frz.progress import show
from frz.store import EventStore
from frz.store.schema import ID

FP32 = {"dtype": "float32"}


@pytest.fixture
def mine(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "artifacts")


@pytest.fixture
def dealt_anew(mine):
    """Version 2 has another split, and 30 events that version 1 does not have; its features are there too."""
    build({**tiny_recipe(350), "split": {"seed": 1}}, mine)
    extract("tiny", mine, settings=FP32)
    return mine


def counted(artifacts, *splits):
    """Held-out events of version 2 that were training events of version 1, and all of these splits, by their ids."""
    old, new = (EventStore(artifacts / "datasets/tiny", version) for version in (1, 2))
    held = np.concatenate([new.array(ID)[new.split(split)] for split in splits])
    return int(np.isin(held, old.array(ID)[old.split("train")]).sum()), len(held)


def test_an_evaluation_says_how_many_test_events_were_trained_on(dealt_anew):
    n_seen, n_held = counted(dealt_anew, "test")
    assert 0 < n_seen < n_held
    said = evaluate("backbones/tiny", dealt_anew)["warning"]
    assert said.startswith(f"backbone tiny was trained on {n_seen} of the {n_held} test events of tiny@2 (in tiny@1 (")
    assert "build the data with the split of that version, or train a backbone on tiny@2" in said
    assert "warning" not in evaluate("backbones/tiny", dealt_anew, {"split": "train"})
    assert "warning" not in evaluate("backbones/tiny", dealt_anew, {"split": "all"})


def test_the_report_says_it_too(dealt_anew, tmp_path):
    for kind in ("backbones", "heads"):
        evaluate(f"{kind}/tiny", dealt_anew, {"report": str(tmp_path / f"{kind}.html")})
    assert "test events of tiny@2" in (tmp_path / "backbones.html").read_text()
    assert "test events of tiny@2" not in (tmp_path / "heads.html").read_text()  # this head is one of version 1


def test_extraction_and_head_training_say_it_of_all_held_out_events(dealt_anew, capsys):
    n_seen, n_held = counted(dealt_anew, "val", "test")
    show("lines")
    extract("tiny", dealt_anew, settings=FP32)
    train({**TINY_HEAD, "name": "anew"}, dealt_anew)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: backbone")]
    assert len(lines) == 2
    assert f"was trained on {n_seen} of the {n_held} test and val events of tiny@2" in lines[0] == lines[1]


def test_a_comparison_of_heads_says_it_once(dealt_anew, capsys):
    for name in ("one", "two"):
        train({**TINY_HEAD, "name": name}, dealt_anew)
    n_seen, n_held = counted(dealt_anew, "test")
    show("lines")
    compare(["one", "two"], dealt_anew, n=2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: backbone")]
    assert len(lines) == 1
    assert f"was trained on {n_seen} of the {n_held} test events of tiny@2" in lines[0]


def test_a_version_with_the_same_split_leaks_nothing_and_is_not_read(mine, capsys, monkeypatch):
    build(tiny_recipe(350), mine)
    show("lines")
    extract("tiny", mine, settings=FP32)
    old, new = (EventStore(mine / "datasets/tiny", version).snapshot for version in (1, 2))
    told = [line for line in capsys.readouterr().err.splitlines() if "trained on" in line]
    assert told == [
        f"this is tiny@2 ({new.hash[:8]}, 350 events); backbone tiny was trained on tiny@1 ({old.hash[:8]})"
    ]
    monkeypatch.setattr(EventStore, "array", None)
    assert seen.warning(EventStore(*names.features("tiny", mine)), mine) == ""


def test_nothing_is_said_of_the_version_that_the_backbone_was_trained_on(mine, capsys):
    show("lines")
    extract("tiny", mine, settings=FP32)
    assert "trained on" not in capsys.readouterr().err


def test_without_the_data_set_the_split_in_the_checkpoint_says_it(dealt_anew):
    shutil.rmtree(dealt_anew / "datasets")
    store = EventStore(*names.features("tiny", dealt_anew))
    first = EventStore(store.root, 1)
    held = np.concatenate([store.split("test"), store.split("val")])
    n_seen = int((first.snapshot.split.which(store.array("event/group")[held]) == 1).sum())
    assert first.snapshot.split.names[1] == "train"
    assert f"was trained on {n_seen} of the {len(held)} " in seen.warning(store, dealt_anew)


def test_without_data_set_and_split_it_cannot_be_told(dealt_anew):
    store = EventStore(*names.features("tiny", dealt_anew))
    trained = {**store.snapshot.about["backbone"]["data"], "backbone": "tiny"}
    del trained["split"]
    assert "was trained on" in seen.warning(store, dealt_anew, trained)
    place = dealt_anew / "datasets/tiny"
    for part in (place / "events.zarr").glob("events-*"):
        shutil.rmtree(part)
    said = seen.warning(store, dealt_anew, trained)
    assert said.startswith("warning: whether backbone tiny was trained on test and val events of tiny@2 cannot be told")
    assert "cannot be told, from tiny@1 (" in said
    assert "; put that version back, or train a backbone on tiny@2 to be sure" in said
    assert seen.warning(store, dealt_anew, trained, unsure=False) == ""
    assert "is missing" in said
    shutil.rmtree(dealt_anew / "datasets")
    assert "): it is not here; put that version back, or train a backbone on tiny@2" in seen.warning(
        store, dealt_anew, trained
    )


def test_the_same_events_under_another_name_are_found_by_their_keys(mine):
    build({**tiny_recipe(), "name": "other", "split": {"seed": 1}}, mine)
    extract("tiny", mine, "other", settings=FP32)
    old, new = (EventStore(mine / "datasets" / name) for name in ("tiny", "other"))
    held = np.concatenate([new.split("test"), new.split("val")])
    n_seen = int(np.isin(new.array(ID)[held], old.array(ID)[old.split("train")]).sum())
    store = EventStore(next(mine.glob("features/tiny-*-other")))
    assert f"was trained on {n_seen} of the {len(held)} test and val events of other@1" in seen.warning(store, mine)
    shutil.rmtree(mine / "datasets")
    assert seen.warning(store, mine) == ""


def test_features_that_do_not_say_are_asked_through_the_card_of_their_backbone(dealt_anew):
    store = EventStore(*names.features("tiny", dealt_anew))
    said = seen.warning(store, dealt_anew)
    about = {**store.snapshot.about, "backbone": {"name": "tiny"}}
    store.snapshot = store.snapshot.model_copy(update={"about": about})
    assert seen.warning(store, dealt_anew) == said != ""
    shutil.rmtree(dealt_anew / "backbones")
    assert seen.warning(store, dealt_anew) == ""
