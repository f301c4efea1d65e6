"""Sweeps from config to run folders: every head as if trained alone, nothing trained twice."""

import json
import shutil

import numpy as np
import pytest
import yaml
from test_stack import CPU, batch_of, head

from conftest import TINY_HEAD
from frz import artifacts as names
from frz.errors import ConfigError, Diverged, FrzError, TrainingError
from frz.evaluation.run import evaluate
from frz.heads import run as heads_run
from frz.heads.run import load_head
from frz.heads.run import train as train_head
from frz.loading.blocks import BlockSource
from frz.location import location
from frz.sweep import onepass
from frz.sweep import run as sweep_run
from frz.sweep.run import sweep
from frz.training.checkpoint import load
from frz.training.config import TIMING

BASE = {**TINY_HEAD, "model": {**TINY_HEAD["model"], "regression_hidden_dim": 16}}


@pytest.fixture
def mine(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "artifacts")


def run(artifacts, base=BASE, **settings):
    return sweep({"name": "try", "base": base, **settings}, artifacts, "sweep.yaml")


def lines_of(head: str, artifacts):
    text = (names.head(head, artifacts).path / "metrics.jsonl").read_text()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in text.splitlines()]


def test_stacked_heads_write_event_files_too(mine):
    pytest.importorskip("tensorboard", reason="event files are written by tensorboard: pip install 'frz[dev]'")
    base = {**BASE, "trainer": {**BASE["trainer"], "tensorboard": True}}
    found = run(mine, base, over={"trainer.lr": [1e-3, 2e-3, 3e-3, 4e-3]})
    assert found["largest_stack"] == 4
    for row in found["heads"]:
        assert list((names.head(row["name"], mine).path / "tensorboard").iterdir())


def test_every_head_is_as_if_trained_alone(mine, tmp_path, tiny):
    base = {**BASE, "trainer": {**BASE["trainer"], "lr": 3e-3}}
    over = {"model.dropout": [0.0, 0.3], "model.regression_num_layers": [1, 2], "trainer.weight_decay": [0.01, 0.2]}
    found = run(mine, base, over=over, seeds=2)
    assert (found["heads_trained"], found["largest_stack"]) == (16, 8)
    other = shutil.copytree(tiny, tmp_path / "other")
    scores = {}
    for row in found["heads"]:
        config = yaml.safe_load((mine / "sweeps/try/heads" / f"{row['name']}.yaml").read_text())
        again = train_head(config, mine)
        assert again["status"] == "finished before: nothing to do"
        assert again["sweep"]["name"] == "try"
        alone = train_head(config, other)
        for ours, theirs in zip(lines_of(row["name"], mine), lines_of(row["name"], other), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)
        key = (row["dropout"], row["regression_num_layers"], row["weight_decay"])
        scores.setdefault(key, []).append((row["score"], alone["score"]))
        for name in ("best", "last"):
            tensors, meta = (
                load(names.head(row["name"], place).path / f"{name}.safetensors") for place in (mine, other)
            )
            assert tensors[0].keys() == meta[0].keys()
            assert tensors[1].keys() == meta[1].keys()
        assert again.keys() == {*alone, "sweep"}
    for pairs in scores.values():
        ours, theirs = np.array(pairs).T
        assert np.all(np.abs(ours - theirs) < 0.1 * theirs.std(ddof=1))


def test_stacked_heads_are_judged_by_what_they_monitor_as_alone(mine, tmp_path, tiny):
    trainer = {**BASE["trainer"], "lr": 3e-3, "monitor": "val/pt/rmse", "max_epochs": 3, "patience": 2}
    found = run(mine, {**BASE, "trainer": trainer}, over={"trainer.seed": [0, 1, 2, 3]})
    assert found["largest_stack"] == 4
    other = shutil.copytree(tiny, tmp_path / "other")
    for row in found["heads"]:
        config = yaml.safe_load((mine / "sweeps/try/heads" / f"{row['name']}.yaml").read_text())
        alone, ours = train_head(config, other), names.card(names.head(row["name"], mine).path)
        assert ours["epoch_metrics"]["best"]["epoch"] == alone["epoch_metrics"]["best"]["epoch"]
        for line, expected in zip(lines_of(row["name"], mine), lines_of(row["name"], other), strict=True):
            assert line.keys() == expected.keys()
            for name in ("train/loss", "val/loss", "val/pt/rmse", "lr"):
                assert line[name] == pytest.approx(expected[name], rel=1e-2)  # rounding grows with the steps
        assert ours["metrics"]["val"]["head"]["pt/rmse"] == pytest.approx(
            min(line["val/pt/rmse"] for line in lines_of(row["name"], mine)), rel=1e-5
        )


def test_a_metric_that_nobody_measures_ends_the_sweep(mine):
    trainer = {**BASE["trainer"], "monitor": "val/pt/rmsee", "monitor_mode": "min"}
    with pytest.raises(TrainingError, match=r"monitor = val/pt/rmsee: no such metric; did you mean 'val/pt/rmse'"):
        run(mine, {**BASE, "trainer": trainer}, over={"model.dropout": [0.1, 0.2, 0.3, 0.4]})


def test_a_head_of_a_sweep_is_loaded_and_evaluated(mine):
    found = run(mine, over={"model.dropout": [0.1, 0.2, 0.3, 0.4]})
    best = found["heads"][0]["name"]
    head, about = load_head(best, mine)
    assert about["name"] == best
    assert head.config.dropout == found["heads"][0]["dropout"]
    assert evaluate(best, mine)["head"] == f"{best}@{names.head(best, mine).path.name}"


def test_nothing_is_trained_twice(mine, monkeypatch):
    over = {"model.dropout": [0.1, 0.2, 0.3, 0.4]}
    first = run(mine, over=over)
    monkeypatch.setattr(onepass, "sources", None)  # another pass would fail
    assert run(mine, over=over)["heads"] == first["heads"]


def test_a_head_that_was_trained_alone_is_taken(mine):
    before = train_head({**BASE, "name": "try-d0.1", "model": {**BASE["model"], "dropout": 0.1}}, mine)
    found = {row["name"]: row for row in run(mine, over={"model.dropout": [0.1, 0.2]})["heads"]}
    assert found["try-d0.1"]["status"] == "finished before"
    assert found["try-d0.1"]["score"] == before["score"]
    assert found["try-d0.2"]["status"] == "trained"


def test_a_sweep_that_was_killed_starts_its_pass_again(mine, monkeypatch):
    over = {"trainer.batch_size": [50, 100], "model.dropout": [0.1, 0.2]}
    whole = run(shutil.copytree(mine, mine.parent / "whole"), over=over)
    judge, judged = onepass.Team.end_epoch, []

    def killed(self, times):
        judged.append(self)
        if len(judged) == 6:  # in the second pass
            raise KeyboardInterrupt
        judge(self, times)

    with monkeypatch.context() as patch:
        patch.setattr(onepass.Team, "end_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            run(mine, over=over)
    on_disk = sorted(path.name for path in (mine / "heads").glob("try-*"))
    assert on_disk == ["try-bs50-d0.1", "try-bs50-d0.2"]
    again = run(mine, over=over)
    assert [(row["name"], row["score"]) for row in again["heads"]] == [
        (row["name"], row["score"]) for row in whole["heads"]
    ]


def test_the_worst_are_dropped_on_the_way(mine):
    base = {**BASE, "trainer": {**BASE["trainer"], "max_epochs": 6}}
    over = {"trainer.lr": [1e-6, 1e-5, 1e-4, 3e-3]}
    found = run(mine, base, over=over, seeds=2, halving={"eta": 2, "first": 1})
    status = {row["name"]: row["status"] for row in found["heads"]}
    assert [status[f"try-l{lr}-s0"] for lr in ("1e-06", "1e-05", "0.0001", "0.003")] == [
        "dropped after epoch 1",
        "dropped after epoch 1",
        "dropped after epoch 2",
        "trained",
    ]
    assert (found["heads_trained"], found["heads_dropped"]) == (2, 6)
    assert (found["head_epochs"], found["head_epochs_asked"]) == (4 * 1 + 2 * 2 + 2 * 6, 8 * 6)
    assert not list((mine / "heads").glob("try-l1e-06*"))  # a dropped head claims no run
    assert found["points"][0]["seeds"] == 2
    assert found["points"][0]["low"] < found["points"][0]["score"] < found["points"][0]["high"]
    again = run(mine, base, over=over, seeds=2, halving={"eta": 2, "first": 1})
    assert {row["name"]: row["status"] for row in again["heads"]} == status


def test_a_metric_that_no_head_has_is_told_with_those_there_are(mine):
    for metric in ("val/lss", "val/q/auc"):  # the latter is measured at the end alone
        with pytest.raises(ConfigError, match=r"halving.metric = \S+: no head has .* epoch 1; .*val/loss"):
            run(mine, over={"trainer.lr": [1e-4, 1e-3]}, halving={"metric": metric})


def test_a_rung_before_the_first_validation_is_refused(mine):
    base = {**BASE, "trainer": {**BASE["trainer"], "max_epochs": 4, "val_every": 2}}
    over = {"trainer.lr": [1e-6, 3e-3]}
    with pytest.raises(ConfigError, match=r"halving.first = 1 comes before the first validation, after epoch 2"):
        run(mine, base, over=over, halving={"eta": 2, "first": 1})
    found = run(mine, base, over=over, halving={"eta": 2, "first": 2})
    status = {row["lr"]: row["status"] for row in found["heads"]}
    assert status == {1e-6: "dropped after epoch 2", 3e-3: "trained"}


def test_without_validation_events_the_training_loss_decides(mine, monkeypatch):
    sources = onepass.sources

    def without(*arguments):
        events = sources(*arguments)
        return events._replace(val=BlockSource(events.val._events, 50, events.splits["val"][:0]))

    monkeypatch.setattr(onepass, "sources", without)
    found = run(mine, over={"trainer.lr": [1e-6, 3e-3]}, halving={"eta": 2})
    status = {row["lr"]: row["status"] for row in found["heads"]}
    assert status == {1e-6: "dropped after epoch 1", 3e-3: "trained"}


def test_heads_compete_with_all_seeds_of_those_that_see_the_same_batches(mine, monkeypatch):
    over = {"trainer.batch_size": [50, 100], "trainer.lr": [1e-4, 1e-3]}
    first = run(mine, over=over, seeds=3)
    seen, train = [], onepass.train_pass

    def watched(members, halving, rivals, *more):
        seen.append((members[0].trainer.batch_size, rivals))
        return train(members, halving, rivals, *more)

    monkeypatch.setattr(sweep_run, "train_pass", watched)
    run(mine, over={**over, "trainer.lr": [1e-4, 1e-3, 2e-3]}, seeds=3)
    assert [size for size, _ in seen] == [50, 100]
    for size, rivals in seen:
        assert {point: len(lines) for point, lines in rivals.items()} == {
            repr({"trainer.batch_size": size, "trainer.lr": lr}): 3 for lr in (1e-4, 1e-3)
        }
    assert first["heads_trained"] == 12


def test_one_diverged_head_is_told_and_the_others_are_as_without_it(mine, tiny, tmp_path):
    with_it = run(mine, over={"trainer.lr": [1e-3, 2e-3, 3e-3, 1e30]}, base={**BASE, "name": "b"})
    status = {row["name"]: row["status"] for row in with_it["heads"]}
    assert status.pop("try-l1e+30").startswith("failed: the loss or the gradient is not finite in epoch 1, step")
    assert set(status.values()) == {"trained"}
    assert with_it["heads"][-1]["name"] == "try-l1e+30"
    assert not (mine / "heads/try-l1e+30").exists()
    without = run(shutil.copytree(tiny, tmp_path / "without"), over={"trainer.lr": [1e-3, 2e-3, 3e-3]})
    scores = [row["score"] for row in with_it["heads"][:3]]
    assert [row["score"] for row in without["heads"]] == pytest.approx(scores, rel=1e-5)  # these are not stacked


def test_what_cannot_be_stacked_is_trained_alone(mine):
    base = {**BASE, "trainer": {**BASE["trainer"], "max_epochs": 1}}
    found = run(mine, base, over={"trainer.optimiser": ["adamw", "lion"]})
    status = {row["optimiser"]: row["status"] for row in found["heads"]}
    assert status == {"adamw": "trained", "lion": "trained alone: trainer.optimiser = lion"}


def test_a_head_with_an_unused_parameter_is_trained_alone_with_its_reason(mine):
    base = {**BASE, "head": "idle_head:IdleHead", "model": {}}
    found = run(mine, base, over={"trainer.lr": [1e-4, 1e-3, 2e-3, 3e-3]})
    assert {row["status"] for row in found["heads"]} == {"trained alone: its loss does not use idle"}


@pytest.mark.parametrize("n_heads", [1, 4])
def test_a_head_that_draws_numbers_of_its_own_is_unfit_for_a_stack(n_heads):
    heads = [head("idle_head:NoisyHead", seed) for seed in range(n_heads)]
    reason = onepass.difference(heads, batch_of(heads[0]), CPU)
    assert "random" in reason
    fine = [head("user_head:MeanHitHead", seed) for seed in range(n_heads)]
    assert onepass.difference(fine, batch_of(fine[0]), CPU) is None


def test_a_head_that_diverges_alone_does_not_end_the_sweep(mine, monkeypatch):
    def overflow(*arguments):
        raise Diverged("the gradient overflows float16 however it is scaled")

    monkeypatch.setattr(sweep_run, "train_planned", overflow)
    found = run(mine, over={"trainer.optimiser": ["adamw", "lion"]})
    status = {row["optimiser"]: row["status"] for row in found["heads"]}
    assert status == {"adamw": "trained", "lion": "failed: the gradient overflows float16 however it is scaled"}


def test_failed_heads_of_a_whole_pass_are_remembered_when_a_later_one_is_killed(mine, monkeypatch):
    over = {"trainer.batch_size": [50, 100], "trainer.lr": [1e-3, 1e30]}
    asked, train = [], onepass.train_pass

    def killed(members, *more):
        asked.append([member.name for member in members])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return train(members, *more)

    monkeypatch.setattr(sweep_run, "train_pass", killed)
    with pytest.raises(KeyboardInterrupt):
        run(mine, over=over)
    run(mine, over=over)
    assert asked[0] == ["try-bs50-l0.001", "try-bs50-l1e+30"]
    assert asked[1:] == [["try-bs100-l0.001", "try-bs100-l1e+30"]] * 2


def test_results_lie_in_files(mine):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    found = run(mine, over={"model.dropout": [0.1, 0.2], "model.hit_nets": [[], ["raw"]]})
    folder = mine / "sweeps/try"
    table = pandas.read_parquet(folder / "results.parquet")
    assert list(table["name"]) == [row["name"] for row in found["heads"]]
    assert list(table["score"]) == sorted(table["score"])
    assert list(pandas.read_csv(folder / "results.csv")["score"]) == pytest.approx(list(table["score"]))
    outcomes = json.loads((folder / "results.json").read_text())["outcomes"]
    assert {len(one["lines"]) for one in outcomes} == {2}


def test_a_config_may_name_a_file_beside_it(mine, tmp_path):
    (tmp_path / "head.yaml").write_text(yaml.safe_dump(BASE))
    found = sweep({"name": "try", "base": "head.yaml"}, mine, str(tmp_path / "sweep.yaml"))
    assert [row["name"] for row in found["heads"]] == ["try"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"over": {"model.drop_out": [0.1]}}, "did you mean 'dropout'?"),
        ({"over": {"trainer.lrr": [0.1]}}, "unknown key 'trainer.lrr'"),
        ({"name": "a/b"}, "cannot name an artifact"),
        ({"base": "none.yaml"}, "no such config file"),
    ],
)
def test_a_wrong_config_is_one_line_and_leaves_nothing(mine, settings, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        sweep({"name": "try", "base": BASE, **settings}, mine, "sweep.yaml")
    assert not list((mine / "heads").glob("try*"))
    assert not (mine / "sweeps").exists()


@pytest.mark.parametrize(
    ("base", "settings", "message"),
    [
        ({"model": {"fields": ["etta"]}}, {}, "eta"),
        ({"model": {"fields": ["etta"]}}, {"search": "optuna"}, "eta"),
        ({"features": {"backbone": "gone", "data": "tiny"}}, {}, "gone"),
        ({"trainer": {**BASE["trainer"], "monitor": "val/lss", "monitor_mode": "min"}}, {}, "no such metric"),
        ({}, {"halving": {"metric": "val/lss"}}, "no head has this entry"),
    ],
)
def test_a_sweep_that_is_refused_leaves_no_folder(mine, base, settings, message):
    if "search" in settings:
        pytest.importorskip("optuna", reason="the search needs optuna: pip install 'frz[search]'")
    with pytest.raises(FrzError, match=message):
        run(mine, {**BASE, **base}, over={"trainer.lr": [1e-4, 1e-3]}, **settings)
    assert not (mine / "sweeps").exists()


def test_a_sweep_that_is_refused_keeps_what_earlier_ones_found(mine):
    over = {"trainer.lr": [1e-4, 1e-3]}
    run(mine, over=over)
    with pytest.raises(FrzError, match="eta"):
        run(mine, {**BASE, "model": {"fields": ["etta"]}}, over=over)
    assert (mine / "sweeps/try/results.json").is_file()


@pytest.mark.parametrize("mode", ["min", "max"])
def test_heads_are_dropped_by_what_is_monitored(mine, mode):
    """One of the two ways keeps another head than the loss would."""
    trainer = {**BASE["trainer"], "monitor": "val/q/auc", "monitor_mode": mode}
    found = run(mine, {**BASE, "trainer": trainer}, over={"trainer.lr": [1e-6, 3e-3]}, halving={"eta": 2})
    (kept,) = (row["name"] for row in found["heads"] if row["status"] == "trained")
    outcomes = json.loads((mine / "sweeps/try/results.json").read_text())["outcomes"]
    first = {one["name"]: one["lines"][0]["val/q/auc"] for one in outcomes}
    assert first[kept] == {"min": min, "max": max}[mode](first.values())
    assert len(set(first.values())) == 2


def test_features_that_are_named_stand_in_for_those_of_the_config(mine):
    base = {**BASE, "features": {"backbone": "gone", "data": "nowhere"}}
    found = sweep({"name": "try", "base": base}, mine, "sweep.yaml", names.features("tiny", mine).path.name)
    assert [row["status"] for row in found["heads"]] == ["trained"]


def test_heads_that_monitor_another_metric_are_ranked_by_it(mine):
    base = {**BASE, "trainer": {**BASE["trainer"], "monitor": "val/q/auc"}}
    found = run(mine, base, over={"trainer.lr": [1e-5, 3e-3, 1e-2]})
    assert (found["monitor"], found["monitor_mode"]) == ("val/q/auc", "max")
    scores = [row["score"] for row in found["heads"]]
    assert scores == sorted(scores, reverse=True) == [row["score"] for row in found["points"]]
    for row in found["heads"]:
        best = max(line["val/q/auc"] for line in lines_of(row["name"], mine))
        card = names.card(names.head(row["name"], mine).path)
        assert row["score"] == best == card["score"]
        assert (card["monitor"], card["monitor_mode"]) == ("val/q/auc", "max")
    assert run(mine, base, over={"trainer.lr": [1e-5, 3e-3, 1e-2]})["points"] == found["points"]


def test_heads_that_are_trained_alone_share_prepared_events(mine, monkeypatch):
    made, prepared = [], sweep_run.prepared

    def watched(*arguments):
        made.append(1)
        return prepared(*arguments)

    monkeypatch.setattr(sweep_run, "prepared", watched)
    monkeypatch.setattr(heads_run, "prepared", None)  # no head prepares for itself
    base = {**BASE, "trainer": {**BASE["trainer"], "max_epochs": 1}}
    found = run(mine, base, over={"trainer.optimiser": ["lion", "adam"], "trainer.ema_decay": [0.5, 0.9]})
    assert found["heads_trained"] == 4
    assert len(made) == 1


def test_metrics_that_decide_are_not_searched_over(mine):
    with pytest.raises(ConfigError, match="trainer.monitor in over: heads that are judged by different metrics"):
        run(mine, over={"trainer.monitor": ["val/loss", "val/q/auc"]})


def test_a_search_in_an_object_store_is_refused_in_one_line(bucket):
    with pytest.raises(ConfigError, match="a search keeps its study in a file of this machine; give --artifacts"):
        run(location(bucket), over={"trainer.lr": {"log": [1e-5, 1e-1]}}, search="optuna")
