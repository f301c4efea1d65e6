"""A backbone is loaded whole or not at all, and stays as it is while heads are trained on it."""

import hashlib
import shutil

import pytest
import torch
import yaml
from typer.testing import CliRunner

from conftest import TINY_BACKBONE, TINY_HEAD
from frz import artifacts as names
from frz import progress, seen
from frz.ancestry import why
from frz.data.build import build
from frz.errors import CheckpointError
from frz.heads.run import train as train_head
from frz.joint.finetune import finetune
from frz.loading.frozen import FrozenBackbone
from frz.pretrain import train as train_backbone
from frz.store import EventStore
from frz.training import checkpoint
from frz_cli.main import app

CPU = torch.device("cpu")
HEAD = {"cls_head.0.weight": torch.zeros(5, 3), "head.bias": torch.zeros(2)}


@pytest.fixture
def mine(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "artifacts")


def rewrite(path, change):
    tensors, meta = checkpoint.load(path)
    change(tensors)
    checkpoint.save(path, tensors, meta)


def lost(tensors):
    del tensors["decoder.queries"]


def cut(tensors):
    tensors["decoder.queries"] = tensors["decoder.queries"][:1]


def cut_and_lost(tensors):
    cut(tensors)
    for name in sorted(tensors.keys() - {"decoder.queries"})[:10]:
        del tensors[name]


def with_old_head(tensors):
    tensors |= HEAD


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.mark.parametrize("command", ["extract", "finetune", "train-backbone"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lost, "1 missing (decoder.queries)"),
        (cut, "1 mis-shaped (decoder.queries: float32 (1, 8) in the file, float32 (2, 8) in the model)"),
        (cut_and_lost, "and 2 more); 1 mis-shaped (decoder.queries:"),
        (lambda tensors: tensors.update({"more": torch.zeros(1)}), "1 unexpected (more)"),
    ],
    ids=["lost", "cut", "cut and lost", "strange"],
)
def test_a_backbone_that_is_not_whole_is_refused_by_name(mine, command, change, says, project):
    weights = names.weights("tiny", mine)
    rewrite(weights, change)
    before = {path for path in mine.rglob("*") if path.is_file()}
    arguments = {
        "extract": ["--ckpt", "tiny"],
        "finetune": ["tiny"],
        "train-backbone": [project / "configs/muon/backbone.yaml", *changes(data="tiny", init="tiny")],
    }
    result = run(command, *arguments[command], "--artifacts", mine)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {weights}: weights do not fit the model: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    new = {path.name for path in mine.rglob("*") if path.is_file()} - {path.name for path in before}
    assert not [name for name in new if name.endswith(".safetensors")]


def changes(**values):
    settings = values | {f"model.{key}": value for key, value in TINY_BACKBONE["model"].items()}
    return [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]


def test_an_old_head_is_left_out_by_name_and_the_rest_loaded(mine):
    fingerprint = FrozenBackbone(names.weights("tiny", mine), CPU).fingerprint.value
    rewrite(names.weights("tiny", mine), with_old_head)
    result = run("extract", "--ckpt", "tiny", "--set", "dtype=float32", "--artifacts", mine)
    assert result.exit_code == 0
    assert "2 of heads left out (cls_head.0.weight, head.bias)" in result.stderr
    assert FrozenBackbone(names.weights("tiny", mine), CPU).fingerprint.value == fingerprint


def test_frozen_tensors_are_the_same_after_heads_were_trained_and_measured(mine):
    weights = names.weights("tiny", mine)
    before = hashlib.sha256(weights.read_bytes()).digest(), FrozenBackbone(weights, CPU).fingerprint
    train_head({**TINY_HEAD, "name": "again", "trainer": {**TINY_HEAD["trainer"], "seed": 1}}, mine)
    assert run("evaluate", "again", "--artifacts", mine).exit_code == 0
    assert run("predict", "again", "--data", "tiny", "--out", mine / "a.csv", "--artifacts", mine).exit_code == 0
    finetune({"head": "again", "trainer": {"max_epochs": 1}}, mine)
    assert (hashlib.sha256(weights.read_bytes()).digest(), FrozenBackbone(weights, CPU).fingerprint) == before


def test_heads_and_fine_tunings_say_how_many_parameters_are_trained(mine):
    config = mine / "head.yaml"
    config.write_text(yaml.safe_dump({**TINY_HEAD, "name": "again"}))
    n_backbone = names.card(names.backbone("tiny", mine).path)["parameters"]
    told = run("train-head", config, "--artifacts", mine).stderr
    n_head = names.card(names.head("again", mine).path)["parameters"]
    assert told.count(f"{n_head:,} trainable parameters; the {n_backbone:,} of backbone tiny are frozen\n") == 1
    told = run("finetune", "again", "--set", "trainer.max_epochs=1", "--artifacts", mine).stderr
    both = f"{n_head + n_backbone:,} trainable parameters ({n_backbone:,} of the backbone, {n_head:,} of the head; "
    assert told.count(f"{both}lr 0.0001 and 0.0001), 0 frozen\n") == 1
    assert "left out" not in told  # the head in the new checkpoint is no surprise


def warm(artifacts, init, **more):
    trainer = {**TINY_BACKBONE["trainer"], "lr": 1e-30, "weight_decay": 0}
    return train_backbone({**TINY_BACKBONE, "name": "warm", "init": str(init), "trainer": trainer, **more}, artifacts)


def test_a_warm_start_takes_weights_and_constants_from_a_backbone(mine, capsys):
    progress.show("lines")
    card = warm(mine, "tiny")
    assert "not compared" not in capsys.readouterr().err
    one, other = (FrozenBackbone(names.weights(name, mine), CPU) for name in ("tiny", "warm"))
    for name, value in one.module.state_dict().items():
        torch.testing.assert_close(other.module.state_dict()[name], value, rtol=0, atol=1e-20, msg=name)
    assert card["init"]["backbone"] == f"tiny@{names.backbone('tiny', mine).path.name}"
    assert warm(mine, "tiny")["status"] == "finished before: nothing to do"
    assert warm(mine, "tiny", init_except=["decoder."])["path"] != card["path"]
    steps = why(f"warm@{card['path'][-8:]}", mine)
    assert [step["kind"] for step in steps] == ["backbones", "backbones", "datasets"]
    assert steps[1]["begun_by"] == f"warm@{card['path'][-8:]}"


def test_a_warm_start_takes_a_foreign_file_and_keeps_what_it_shall(mine, capsys):
    state = {f"module.{name}": value for name, value in checkpoint.load(names.weights("tiny", mine))[0].items()}
    state["module.decoder.queries"] = torch.zeros(9, 9)
    torch.save({"state_dict": state | HEAD}, mine / "theirs.pt")
    with pytest.raises(
        CheckpointError, match=r"1 mis-shaped \(decoder.queries: .*name what to leave as it is in init_"
    ):
        warm(mine, mine / "theirs.pt")
    with pytest.raises(CheckpointError, match=r"/gone.pt: no such file; check init"):
        warm(mine, mine / "gone.pt")
    progress.show("lines")
    card = warm(mine, mine / "theirs.pt", init_except=["decoder.queries"])
    assert "; it names no columns, so those of hit/raw are not compared with this data set's" in capsys.readouterr().err
    one, other = (FrozenBackbone(names.weights(name, mine), CPU).module.state_dict() for name in ("tiny", "warm"))
    moved = {name for name, value in one.items() if not torch.allclose(other[name], value, atol=1e-20)}
    assert moved == {"decoder.queries"}
    assert card["init"]["checkpoint"] == str(mine / "theirs.pt")
    assert "began_with" in why("backbones/warm", mine)[0]


def test_what_the_weights_saw_before_is_remembered(mine):
    """Another split of the same events: what the first backbone was trained on is held out for the second."""
    build({"name": "tiny", "source": {"kind": "muon_sim", "n_events": 320}, "split": {"seed": 1}}, mine)
    card = warm(mine, "tiny", data="tiny@2")
    assert [one["version"] for one in card["data"]["earlier"]] == [1]
    store = EventStore(*names.dataset("tiny@2", mine))
    assert "was trained on" in seen.warning(store, mine, {**card["data"], "backbone": "warm"})
    again = train_backbone({**TINY_BACKBONE, "data": "tiny@2", "name": "cold"}, mine)
    assert seen.warning(store, mine, {**again["data"], "backbone": "cold"}) == ""
