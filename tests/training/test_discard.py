"""Runs are removed by name or for being unfinished, never while something points at them or trains them."""

import json
import shutil
from pathlib import Path

import pytest

from conftest import LEFT, TINY_BACKBONE, TINY_HEAD
from frz import artifacts as names
from frz import progress
from frz.errors import CheckpointError, ConfigError, TrainingError
from frz.heads.run import train
from frz.pretrain import train as train_backbone
from frz.sweep.run import sweep
from frz.training.discard import discard, left_behind
from frz.training.lock import only_writer


@pytest.fixture
def mine(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "artifacts")


def unfinished(artifacts: Path, name: str) -> Path:
    folder = artifacts / "heads" / name / "0badcafe"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps({"finished": False}))
    return folder


def test_a_run_is_told_and_then_removed(mine: Path) -> None:
    train({**TINY_HEAD, "name": "other"}, mine)
    path = names.head("other", mine).path
    (path / "report.html").write_text("a report")
    (told,) = discard(mine, [f"other@{path.name[:5]}"])
    assert (told.run, told.state, told.files) == (f"heads/other@{path.name}", "finished", ["report.html"])
    assert told.bytes > 1000
    assert path.is_dir()
    assert discard(mine, [f"heads/other@{path.name}"], delete=True) == [told]
    assert not path.parent.exists()
    assert not list((mine / "tmp").iterdir())


def test_unfinished_runs_go_when_they_are_old(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, notes = unfinished(mine, "broken"), mine / "heads/tiny/notes"
    notes.mkdir()  # no run
    progress.show("lines")
    assert discard(mine, unfinished=True) == []
    assert (
        "younger than the grace of 24 h, so they stay: heads/broken@0badcafe; '--grace 0s' takes them too"
        in capsys.readouterr().err
    )
    assert [one.run for one in discard(mine, unfinished=True, grace=0)] == ["heads/broken@0badcafe"]
    assert path.exists()
    with only_writer(path):
        assert discard(mine, unfinished=True, grace=0, delete=True) == []
        with pytest.raises(TrainingError, match="trained already"):
            discard(mine, ["broken@0badcafe"], delete=True)
    assert path.exists()
    assert len(discard(mine, unfinished=True, grace=0, delete=True)) == 1
    assert not path.exists()
    assert notes.exists()
    assert names.head("tiny", mine).path.exists()


def test_what_killed_processes_left_is_found_and_goes(mine: Path) -> None:
    (mine / "tmp").mkdir(exist_ok=True)
    sweep({"name": "try", "base": TINY_HEAD, "over": {"model.dropout": [0.3]}}, mine, "sweep.yaml")
    places = [names.head("tiny", mine).path, mine / "sweeps/try", mine / "tmp"]
    left = [place / f".{LEFT}" for place in places]
    for path in left:
        path.write_bytes(b"half a file")
    assert sorted(item.path for item in left_behind(mine).garbage) == sorted(left)
    with only_writer(places[0]):  # as the next training there
        assert not left[0].exists()
    discard(mine, ["heads/tiny@" + places[0].name], delete=True)
    assert [item.path for item in left_behind(mine).garbage] == [left[1]]


def test_what_something_points_at_stays(mine: Path) -> None:
    backbone, head = names.backbone("tiny", mine).path, names.head("tiny", mine).path
    with pytest.raises(CheckpointError, match=f"features/tiny-.*, heads/tiny@{head.name} point at it; remove these"):
        discard(mine, [f"backbones/tiny@{backbone.name}"], delete=True)
    sweep({"name": "try", "base": TINY_HEAD, "over": {"model.dropout": [0.3]}}, mine, "sweep.yaml")
    run = names.head("try-d0.3", mine).path
    with pytest.raises(CheckpointError, match="sweeps/try point at it"):
        discard(mine, [f"try-d0.3@{run.name}"], delete=True)
    assert backbone.exists()
    assert run.exists()
    shutil.rmtree(mine / "sweeps/try")
    discard(mine, [f"try-d0.3@{run.name}"], delete=True)
    assert not run.exists()
    train_backbone({**TINY_BACKBONE, "name": "free", "trainer": {**TINY_BACKBONE["trainer"], "seed": 1}}, mine)
    discard(mine, [f"free@{names.backbone('free', mine).path.name}"], delete=True)  # of other weights
    assert names.entries(mine, "backbones") == [backbone.parent]


def test_a_name_that_does_not_say_which_run_is_refused(mine: Path) -> None:
    run = names.head("tiny", mine).path.name
    with pytest.raises(ConfigError, match=f"'heads/tiny' does not say which run; name a run, as in tiny@{run}"):
        discard(mine, ["heads/tiny"], delete=True)
