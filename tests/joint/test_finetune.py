"""Fine-tuning is plain end-to-end training from both checkpoints; what comes of it is new, its origin stays."""

import hashlib
import shutil

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from conftest import TINY_HEAD
from frz import artifacts as names
from frz.ancestry import why
from frz.data.build import build
from frz.errors import ConfigError, IdentityError
from frz.extract.run import extract
from frz.heads.run import load_head
from frz.heads.run import train as train_head
from frz.joint.finetune import _begin, _trainer, finetune
from frz.joint.live import Live, LiveSource
from frz.joint.on_the_fly import FrozenFeatures, OnTheFly
from frz.joint.settings import FinetuneConfig
from frz.loading.batch import to_batch
from frz.loading.frozen import FINE_TUNED, FrozenBackbone
from frz.loading.source import ReaderSource
from frz.pretrain import train as train_backbone
from frz.store import EventStore
from frz.training import checkpoint
from frz.training.loop import fit
from frz_cli.main import app

CPU = torch.device("cpu")
SLOW = {"max_epochs": 2, "lr": 1e-3}
HEADS = {
    "regression": {"model": {**TINY_HEAD["model"], "dropout": 0}},
    "attention": {
        "head": "attention",
        "model": {"fields": ["eta", "q"], "bce_fields": ["q"], "norm": "batch", "dropout": 0},
    },
    "pooled": {"head": "pooled", "model": {"fields": ["eta"], "pooling": ["mean", "softmax"], "dropout": 0}},
    "linear": {"head": "linear", "model": {"fields": ["eta", "phi"], "inputs": ["query/embedding"]}},
}
ICU = {
    "name": "icu",
    "family": "set_sequence",
    "data": "icu",
    "model": {"dim": 8, "static": True, "dropout": 0.1},
    "trainer": {"max_epochs": 1, "batch_size": 32, "device": "cpu"},
}
LABEL = {"rows": "event", "target": "event/label", "field": "label", "descriptors": ["event/static"]}
ICU_HEADS = {
    "icu-fast": {
        "head": "mlp-classifier",
        "model": {**LABEL, "inputs": ["set/state"], "pooling": ["softmax"], "softmax_scaled": False, "norm": "batch"},
    },
    "icu-barycentre": {
        "head": "mlp-classifier",
        "model": {
            **LABEL,
            "inputs": ["set/mu", "set/logvar", "event/pooled_fast"],
            "log_variances": ["set/logvar"],
            "pooling": ["mean"],
        },
    },
    "icu-mil": {"head": "gaussian-mil", "model": {"inputs": ["set/mu", "set/logvar", "set/minute"]}},
    "icu-fusion": {"head": "fusion-classifier", "model": {**LABEL, "inputs": ["set/state"], "fused_dropout": 0}},
}
FIRST = {"hit_track": "embedding.", "set_sequence": "tokens."}
"""What the names of a family's first layer begin with."""


@pytest.fixture(scope="module")
def artifacts(tiny, tmp_path_factory):
    """The tiny artifacts of both families with a head of each kind, without dropout."""
    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("finetune") / "artifacts")
    for name, changes in HEADS.items():
        train_head({**TINY_HEAD, **changes, "name": name}, folder)
    build({"name": "icu", "source": {"kind": "icu_sim", "n_events": 200, "hours": 8, "empty": 0.1}}, folder)
    train_backbone(ICU, folder)
    extract("icu", folder, settings={"dtype": "float32"})
    of_icu = {"features": {"backbone": "icu", "data": "icu"}, "trainer": TINY_HEAD["trainer"]}
    for name, config in ICU_HEADS.items():
        train_head({"name": name, **config, **of_icu}, folder)
    return folder


@pytest.fixture
def mine(artifacts, tmp_path):
    return shutil.copytree(artifacts, tmp_path / "artifacts")


def begin(head, artifacts, **changes):
    config = FinetuneConfig(head=head, **{"trainer": SLOW, **changes})
    trainer = _trainer(config, artifacts, "test")
    return _begin(config, trainer, artifacts), trainer


def digests(folder):
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).digest() for path in files(folder)}


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", [*HEADS, *ICU_HEADS])
def test_it_begins_with_the_loss_of_the_stored_features(artifacts, name):
    begun, trainer = begin(name, artifacts)
    val = begun.source.split("val")
    events = LiveSource(begun.source, begun.live, len(val), positions=val, shuffle=False)
    begun.live.eval()
    (batch,) = events.batches(events.plan(0))
    live = begun.live.loss(batch)[0].item()
    head, about = load_head(name, artifacts)
    store = EventStore(about["features"]["store"])
    stored = head.prepare(store.events(events.plan(0)[0], head.needs))
    assert live == pytest.approx(head.loss(to_batch(stored, head.prepared))[0].item(), rel=1e-5)


@pytest.mark.parametrize("name", [*HEADS, *ICU_HEADS])
def test_gradients_reach_the_backbone(artifacts, name):
    begun, _ = begin(name, artifacts)
    events = LiveSource(begun.source, begun.live, 64)
    begun.live.train()
    batch = next(events.batches(events.plan(0)))
    begun.live.loss(batch)[0].backward()
    moved = {part: p.grad is not None and bool(p.grad.any()) for part, p in begun.live.backbone.named_parameters()}
    reached = [part for part, found in moved.items() if found]
    assert any(part.startswith(FIRST[begun.card.family]) for part in reached)
    assert len(reached) > len(moved) / 3  # Stage-1 tasks of its own have no part in it
    assert not any(module.training for module in begun.live.backbone.modules())


def test_steps_are_those_of_a_plain_loop(artifacts):
    settings = {"lr": 1e-3, "max_epochs": 1, "schedule": "none", "window": 1, "clip_norm": 0.5, "weight_decay": 0.1}
    ours, trainer = begin("linear", artifacts, backbone_lr=0.3, trainer=settings)
    plain, _ = begin("linear", artifacts)
    positions = ours.source.split("train")[:200]
    order = {"positions": positions, "seed": 0, "window": 1}
    events = LiveSource(ours.source, ours.live, 50, **order)

    backbone, head, source = plain.live.backbone.eval(), plain.live.head.train(), ours.source

    def group(module, lr, decayed):
        return {
            "params": [p for p in module.parameters() if (p.ndim > 1) == decayed],
            "lr": lr,
            "weight_decay": 0.1 * decayed,
        }

    both = [group(module, lr, decayed) for module, lr in ((backbone, 3e-4), (head, 1e-3)) for decayed in (True, False)]
    optimiser = torch.optim.AdamW(both)
    inputs = ReaderSource(source, [*backbone.inputs, *backbone.targets], 50, **order)
    losses = []
    for chosen, batch in zip(inputs.plan(0), inputs.batches(inputs.plan(0)), strict=True):
        made = backbone(batch)
        match = backbone.annotate(batch, {name: values.detach() for name, values in made.items()})["query/match"]
        kept = ((match >= 0) | (made["query/valid_logit"] >= 0)).nonzero()[:, 0]
        truth = source.events(chosen, ["track/parameters"])
        columns = source.schema.arrays["track/parameters"].columns
        n_query = len(match) // len(chosen)
        row = torch.from_numpy(truth["track/offsets"])[kept // n_query] + match[kept]
        counts = match[kept] >= 0
        fields = truth["track/parameters"][:, [columns.index(name) for name in ("eta", "phi")]]
        target = torch.from_numpy(fields)[row.clamp(0, len(fields) - 1)] * counts[:, None]
        goal = torch.from_numpy(head.targets.goals(target.numpy())) * counts[:, None]
        vector = made["query/embedding"][kept]
        loss, _ = head.loss({"slot/vector": vector, "slot/counts": counts, "slot/goal": goal})
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for g in both for p in g["params"]], 0.5)
        optimiser.step()
        losses.append(loss.item())

    fit(ours.live, events, None, trainer.model_copy(update={"batch_size": 50}), artifacts.parent / "plain")
    for name, value in plain.live.state_dict().items():
        torch.testing.assert_close(ours.live.state_dict()[name], value, rtol=1e-5, atol=1e-5, msg=name)
    assert losses[-1] != losses[0]


def test_a_frozen_backbone_leaves_training_of_the_head_alone(artifacts, tmp_path):
    begun, trainer = begin("regression", artifacts, backbone_lr=0.0)
    positions = begun.source.split("train")[:150]
    events = LiveSource(begun.source, begun.live, 50, positions=positions)
    head = load_head("regression", artifacts, begun.live.schema)[0]
    before = {name: value.clone() for name, value in begun.live.backbone.state_dict().items()}
    weights = names.weights("tiny", artifacts)
    features = FrozenFeatures(FrozenBackbone(weights, CPU), begun.source, begun.recipe, batching="read")
    alone = OnTheFly(features, head, events)
    fit(begun.live, events, None, trainer, tmp_path / "live")
    fit(head, alone, None, trainer, tmp_path / "alone")
    assert all(torch.equal(value, before[name]) for name, value in begun.live.backbone.state_dict().items())
    for name, value in head.state_dict().items():
        torch.testing.assert_close(begun.live.head.state_dict()[name], value, rtol=1e-5, atol=1e-5, msg=name)


def test_what_comes_of_it_is_new_and_whole_and_what_it_came_from_stays(mine):
    before = digests(mine)
    asked = {"head": "regression", "trainer": SLOW}
    done = finetune(asked, mine)
    assert {path: digest for path, digest in digests(mine).items() if path in before} == before
    old, new = (
        FrozenBackbone(names.weights("tiny", mine), CPU),
        FrozenBackbone(names.weights("tiny-finetuned", mine), CPU),
    )
    assert old.fingerprint.value != new.fingerprint.value == done["fingerprint"] == done["features"]["fingerprint"]
    assert not new.report.left_out  # the head is no surprise
    assert any(name.startswith(FINE_TUNED) for name in checkpoint.load(names.weights("tiny-finetuned", mine))[0])
    card = names.card(names.backbone("tiny-finetuned", mine).path)
    assert card["finetune"]["fingerprint"] == old.fingerprint.value
    assert (card["finetune"]["backbone"], card["finetune"]["head"]) == (
        f"tiny@{names.backbone('tiny', mine).path.name}",
        f"regression@{names.head('regression', mine).path.name}",
    )
    steps = why("regression-finetuned", mine)
    assert [step["kind"] for step in steps] == ["heads", "features", "backbones", "backbones", "datasets"]
    assert all(step["in_place"] for step in steps)
    assert steps[3]["identity"] == old.fingerprint.value
    again = finetune(asked, mine)
    assert (again["status"], again["path"]) == ("finished before: nothing to do", done["path"])
    assert done["metrics"]["test"]["head"]["slots"] > 0

    here = ("--artifacts", mine)
    run("evaluate", "regression-finetuned", *here)
    run("evaluate", "tiny-finetuned", *here)
    run("predict", "regression-finetuned", "--data", "tiny", "--out", mine / "tracks.csv", *here)
    run("compare", "regression", "regression-finetuned", *here)
    run("diff", "heads/regression", "heads/regression-finetuned", *here)
    assert "that tiny-finetuned@" in run("why", "regression-finetuned", *here)
    assert "tiny-finetuned" in run("ls", *here)
    run("gc", *here)
    run("verify", "backbones/tiny-finetuned", *here)
    assert extract("tiny-finetuned", mine, settings={"dtype": "float32"})["events_run"] == 0


@pytest.mark.parametrize("name", ["pooled", "icu-fast", "icu-mil"])
def test_the_metrics_of_the_card_are_those_of_the_live_model(mine, name):
    done = finetune({"head": name, "trainer": SLOW}, mine)
    begun, trainer = begin(name, mine)
    tensors = checkpoint.load(begun.folder / "best.safetensors")[0]
    checkpoint.load_into(begun.live, tensors, "test")
    begun.live.eval()
    val = begun.source.split("val")
    live = begun.live.measure(LiveSource(begun.source, begun.live, 16, positions=val, shuffle=False))
    found = done["metrics"]["val"]["head"]
    assert live.keys() == found.keys()
    np.testing.assert_allclose([live[name] for name in found], list(found.values()), rtol=1e-3)


@pytest.mark.parametrize(("name", "metric"), [("regression", "val/q/accuracy"), ("icu-fusion", "val/auc")])
def test_the_head_metric_can_decide(mine, name, metric):
    done = finetune({"head": name, "trainer": {**SLOW, "monitor": metric}}, mine)
    of_split = done["metrics"]["val"]["head"]
    (written,) = (value for key, value in of_split.items() if key in (metric[4:], f"label/{metric[4:]}"))
    assert done["epoch_metrics"]["best"][metric] == written


@pytest.mark.parametrize("where", ["within the training", "before the features", "before the head"])
def test_a_run_that_was_broken_off_ends_in_the_same(mine, tmp_path, monkeypatch, where):
    other = shutil.copytree(mine, tmp_path / "other")
    asked = {"head": "attention", "trainer": {**SLOW, "checkpoint_minutes": 0, "ema_decay": 0.9}}
    whole = finetune(asked, other)
    with monkeypatch.context() as patch:
        if where == "within the training":
            loss, calls = Live.loss, []

            def stopping(self, batch):
                calls.append(batch)
                if len(calls) == 8:
                    raise KeyboardInterrupt
                return loss(self, batch)

            patch.setattr(Live, "loss", stopping)
        else:
            step = "extract" if where == "before the features" else "score"

            def stop(*arguments, **options):
                raise KeyboardInterrupt

            patch.setattr(f"frz.joint.finetune.{step}", stop)
        with pytest.raises(KeyboardInterrupt):
            finetune(asked, mine)
    done = finetune(asked, mine)
    assert done["fingerprint"] == whole["fingerprint"]
    ours, theirs = (
        checkpoint.load(names.head("attention-finetuned", a).path / "best.safetensors")[0] for a in (mine, other)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert done["metrics"] == whole["metrics"]
    assert done["epoch_metrics"]["best"]["val/loss"] == whole["epoch_metrics"]["best"]["val/loss"]


def test_a_head_whose_prefix_is_closed_is_refused_before_anything_is_written(mine, project, monkeypatch):
    monkeypatch.syspath_prepend(project / "tests/heads")
    train_head({**TINY_HEAD, "name": "mean", "head": "user_head:MeanHitHead", "model": {}}, mine)
    before = files(mine)
    with pytest.raises(ConfigError, match="no gradient can pass what MeanHitHead prepares"):
        finetune({"head": "mean"}, mine)
    assert files(mine) == before


def test_what_is_not_in_place_is_named(mine):
    shutil.rmtree(mine / "backbones/tiny")
    with pytest.raises(IdentityError, match="no run of backbone 'tiny' has fingerprint"):
        finetune({"head": "regression"}, mine)


def test_what_is_left_out_is_as_the_head_was_trained_but_slower(artifacts):
    trainer = begin("regression", artifacts, trainer={"patience": 2})[1]
    assert (trainer.batch_size, trainer.lr, trainer.max_epochs, trainer.patience) == (50, 1e-4, 5, 2)
    with pytest.raises(ConfigError, match="test: trainer: unknown key 'lrr'; did you mean 'lr'"):
        begin("regression", artifacts, trainer={"lrr": 1})
