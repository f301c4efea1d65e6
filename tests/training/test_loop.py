"""The loop against the same steps written out in plain torch, and its ways to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_run import CONFIG, N_TRAIN, STEPS, Toy, ToySource, run

from frz.config import parse
from frz.errors import ConfigError, TrainingError
from frz.training import checkpoint
from frz.training.config import TrainerConfig, pick_device
from frz.training.loop import DRAIN_STEPS, fit, resumable
from frz.training.position import line_ends
from frz.training.record import BEST, LAST, LAST_EMA, METRICS, STATE
from frz.training.schedules import Schedule
from frz.training.source import Batch
from frz.training.validation import Measure


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


class Scripted(nn.Module):
    """Whose validation losses are given, and whose weight counts the epochs."""

    def __init__(self, val_losses: list[float], train_loss: Callable[[int], float] = lambda step: 0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))
        self.register_buffer("epochs", torch.zeros(()))
        self.script, self.train_loss, self.steps = iter(val_losses), train_loss, 0

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        if self.training:
            self.steps += 1
            return self.weight.sum() * 0 + self.train_loss(self.steps), {}
        self.epochs += 1
        return torch.tensor(next(self.script)), {}


def scripted(
    folder: Path,
    val_losses: list[float],
    train_loss: Callable[[int], float] = lambda step: 0.5,
    measure: Measure | None = None,
    **changes: Any,
) -> tuple[Any, Scripted]:
    """A run of one step and one validation batch per epoch, 8 events each."""
    module = Scripted(val_losses, train_loss)
    config = TrainerConfig.model_validate(CONFIG | {"max_epochs": len(val_losses)} | changes)
    return fit(module, ToySource(8, 1), ToySource(8, 2, shuffle=False), config, folder, measure=measure), module


@pytest.mark.parametrize(("clip", "precision"), [(0.5, "fp32"), (0.0, "fp32"), (0.5, "bf16")])
def test_the_loop_is_these_steps(tmp_path: Path, clip: float, precision: str) -> None:
    result = run(tmp_path, clip_norm=clip, precision=precision)

    config = TrainerConfig.model_validate(CONFIG | {"clip_norm": clip})
    torch.manual_seed(11)
    net, source, val = Toy(), ToySource(N_TRAIN, 1), ToySource(11, 2, shuffle=False)
    weights = [p for name, p in net.named_parameters() if name in ("net.0.weight", "net.4.weight")]
    others = [p for name, p in net.named_parameters() if name not in ("net.0.weight", "net.4.weight")]
    groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    torch.manual_seed(config.seed)
    step, best = 0, {}
    for epoch in range(3):
        net.train()
        sums = {"loss": 0.0, "abs": 0.0}
        for batch in source.batches(source.plan(epoch)):
            for group in optimiser.param_groups:
                group["lr"] = config.lr * Schedule(config, 3, STEPS).factor(step)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss, parts = net.loss(batch)
            optimiser.zero_grad()
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_([*weights, *others], clip)
            optimiser.step()
            step += 1
            n = len(batch["event/x"])
            sums = {"loss": sums["loss"] + n * loss.item(), "abs": sums["abs"] + n * parts["abs"].item()}
        net.eval()
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        with torch.no_grad(), autocast, torch.random.fork_rng(devices=[]):
            val_loss = sum(len(b["event/x"]) * net.loss(b)[0].item() for b in val.batches(val.plan(0))) / 11
        line = lines(tmp_path)[epoch]
        assert (line["epoch"], line["step"]) == (epoch + 1, step)
        assert line["train/loss"] == pytest.approx(sums["loss"] / N_TRAIN, rel=1e-6)
        assert line["train/abs"] == pytest.approx(sums["abs"] / N_TRAIN, rel=1e-6)
        assert line["val/loss"] == pytest.approx(val_loss, rel=1e-6)
        assert line["lr"] == optimiser.param_groups[0]["lr"]
        assert ("train/grad_norm" in line) == bool(clip)
        if val_loss < best.get("loss", float("inf")):
            best = {"loss": val_loss, "weights": {name: value.clone() for name, value in net.state_dict().items()}}
    found, meta = checkpoint.load(tmp_path / BEST)
    assert meta["metrics"]["val/loss"] == pytest.approx(best["loss"], rel=1e-6)
    for name, value in net.state_dict().items():
        assert torch.equal(found[name], best["weights"][name]), name
        assert torch.equal(checkpoint.load(tmp_path / LAST)[0][name], value), name
    assert (result.epochs, result.steps, result.resumed, result.stopped_early) == (3, 12, False, False)


def test_checkpoints_say_what_they_are(tmp_path: Path) -> None:
    run(tmp_path)
    for name in (BEST, LAST):
        weights, meta = checkpoint.load(tmp_path / name)
        assert meta["n_weights"] == len(weights)
        assert meta["trainer"]["lr"] == 1e-2
        assert meta["metrics"].keys() >= {"epoch", "step", "val/loss"}
        assert "seconds" not in meta["metrics"]


def test_lines_say_how_long_it_took(tmp_path: Path) -> None:
    run(tmp_path)
    for line in lines(tmp_path):
        assert line["seconds"] > 0
        assert line["events_per_s"] >= N_TRAIN / line["seconds"]


def test_the_caller_s_random_numbers_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    run(tmp_path)
    assert torch.equal(torch.rand(4), expected)


def test_seeds_decide(tmp_path: Path) -> None:
    """`seed` is dropout here; `data_seed` is the source's, the loop does not look at it."""
    last = {}
    for name, changes in {"a": {}, "again": {}, "seed": {"seed": 1}, "data": {"data_seed": 1}}.items():
        run(tmp_path / name, **changes)
        last[name] = checkpoint.load(tmp_path / name / LAST)[0]["net.0.weight"]
    assert torch.equal(last["a"], last["again"])
    assert torch.equal(last["a"], last["data"])
    assert not torch.equal(last["a"], last["seed"])


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    result, _ = scripted(tmp_path, [3.0, 1.0, 2.0, 1.0])
    assert result.best["epoch"] == 2
    assert checkpoint.load(tmp_path / BEST)[0]["epochs"] == 2
    assert checkpoint.load(tmp_path / LAST)[0]["epochs"] == 4


def test_patience(tmp_path: Path) -> None:
    result, _ = scripted(tmp_path / "two", [3.0, 1.0, 2.0, 1.0, 0.5], patience=2)
    assert (result.stopped_early, result.epochs, result.best["epoch"]) == (True, 4, 2)
    again, module = scripted(tmp_path / "two", [3.0, 1.0, 2.0, 1.0, 0.5], patience=2)
    assert (again.stopped_early, again.epochs, again.resumed, module.steps) == (True, 4, True, 0)
    result, _ = scripted(tmp_path / "three", [3.0, 1.0, 2.0, 1.0, 0.5], patience=3)
    assert (result.stopped_early, result.epochs, result.best["epoch"]) == (False, 5, 5)


def test_validation_every_few_epochs_and_at_the_end(tmp_path: Path) -> None:
    module = Scripted([3.0, 2.0, 1.0])
    config = TrainerConfig.model_validate(CONFIG | {"max_epochs": 5, "val_every": 2})
    fit(module, ToySource(8, 1), ToySource(8, 2), config, tmp_path)
    assert [line.get("val/loss") for line in lines(tmp_path)] == [None, 3.0, None, 2.0, 1.0]


@pytest.mark.parametrize(
    ("n_batches", "accumulate", "val_every", "ends"),
    [
        (10, 1, 1, [10]),
        (10, 1, 3, [10]),
        (8, 1, 0.25, [2, 4, 6, 8]),
        (10, 1, 0.3, [3, 6, 9, 10]),
        (10, 4, 0.5, [8, 10]),  # steps of 4, 4 and 2 batches
        (2, 1, 0.1, [1, 2]),
        (49, 1, 1 / 49, list(range(1, 50))),
    ],
)
def test_where_an_epoch_is_validated(n_batches: int, accumulate: int, val_every: float, ends: list[int]) -> None:
    assert line_ends(n_batches, accumulate, val_every) == ends


def test_validation_within_an_epoch(tmp_path: Path) -> None:
    """Means are of the steps since the line before; patience counts validations."""
    module = Scripted([4.0, 3.0, 1.0, 2.0, 2.5], lambda step: float(step))
    config = TrainerConfig.model_validate(CONFIG | {"val_every": 0.5, "patience": 2})
    result = fit(module, ToySource(N_TRAIN, 1), ToySource(8, 2, shuffle=False), config, tmp_path)
    found = lines(tmp_path)
    assert [(line["epoch"], line["step"]) for line in found] == [(0.5, 2), (1, 4), (1.5, 6), (2, 8), (2.5, 10)]
    assert [line["val/loss"] for line in found] == [4.0, 3.0, 1.0, 2.0, 2.5]
    assert found[2]["train/loss"] == pytest.approx(5.5)
    assert (result.stopped_early, result.epochs, result.steps, result.best["epoch"]) == (True, 2, 10, 1.5)
    assert checkpoint.load(tmp_path / BEST)[1]["metrics"]["epoch"] == 1.5
    assert checkpoint.load(tmp_path / LAST)[1]["metrics"]["epoch"] == 2.5
    again = fit(module, ToySource(N_TRAIN, 1), ToySource(8, 2, shuffle=False), config, tmp_path)
    assert (again.stopped_early, again.steps) == (True, 10)


def test_parts_of_an_epoch_are_below_one() -> None:
    with pytest.raises(ConfigError, match="whole number of epochs, or a part of one"):
        parse(TrainerConfig, {"val_every": 1.5}, "trainer")


def test_one_average_is_enough() -> None:
    with pytest.raises(ConfigError, match="schedule_free averages the weights itself: set ema_decay to 0"):
        parse(TrainerConfig, {"schedule": "schedule_free", "ema_decay": 0.9}, "trainer")


def test_the_best_few_are_kept_by_name(tmp_path: Path) -> None:
    """The earlier one wins where values are equal."""
    scripted(tmp_path, [3.0, 1.0, 2.0, 1.0, 0.5, 2.0], save_top_k=3)
    names = sorted(path.name for path in tmp_path.glob("top-*"))
    assert names == [f"top-step{s}-val_loss-{v}.safetensors" for s, v in ((2, 1), (4, 1), (5, 0.5))]
    for name in names:
        weights, meta = checkpoint.load(tmp_path / name)
        assert weights["epochs"] == meta["metrics"]["step"]
    assert checkpoint.load(tmp_path / BEST)[0]["epochs"] == 5


def test_a_metric_of_the_caller_decides(tmp_path: Path) -> None:
    """The larger, the better; what cannot be measured is no progress. `abs` is a part of the loss."""
    script = iter([0.5, 0.6, 0.9, 0.8, float("nan")])
    result, module = scripted(
        tmp_path, [1.0] * 6, measure=lambda net: {"auc": next(script)}, monitor="val/auc", patience=2, save_top_k=2
    )
    assert [line["val/auc"] for line in lines(tmp_path)] == [0.6, 0.9, 0.8, None]  # the first was to learn the names
    assert (result.best["val/auc"], result.best["epoch"], result.stopped_early) == (0.9, 2, True)
    assert checkpoint.load(tmp_path / BEST)[1]["metrics"]["val/auc"] == 0.9
    assert sorted(p.name for p in tmp_path.glob("top-*")) == [
        "top-step2-val_auc-0.9.safetensors",
        "top-step3-val_auc-0.8.safetensors",
    ]


def test_a_metric_that_is_never_finite_keeps_the_first(tmp_path: Path) -> None:
    result, _ = scripted(
        tmp_path, [1.0] * 4, measure=lambda net: {"auc": float("nan")}, monitor="val/auc", max_epochs=3
    )
    assert result.best["epoch"] == 1
    assert checkpoint.load(tmp_path / BEST)[0]["epochs"] == 2  # one validation was to learn the names


def test_an_unknown_metric_is_refused_before_the_first_step(tmp_path: Path) -> None:
    module = Scripted([1.0] * 3)
    config = TrainerConfig.model_validate(CONFIG | {"monitor": "val/acu", "monitor_mode": "max"})
    with pytest.raises(
        TrainingError, match=r"val/acu.*no such metric; did you mean 'val/auc'\? \(have: val/auc, val/loss\)"
    ):
        fit(module, ToySource(8, 1), ToySource(8, 2), config, tmp_path, measure=lambda net: {"auc": 0.5})
    assert module.steps == 0
    assert not (tmp_path / METRICS).exists()


def test_parts_of_the_loss_can_decide(tmp_path: Path) -> None:
    result = run(tmp_path, monitor="val/abs")
    values = [line["val/abs"] for line in lines(tmp_path)]
    assert result.best["val/abs"] == min(values)
    result = run(tmp_path / "train", monitor="train/abs", monitor_mode="max")
    assert result.best["epoch"] == 1


def test_averaged_weights_are_validated_and_kept(tmp_path: Path) -> None:
    """The same run with and without the average has the same raw weights; best is what was validated."""
    run(tmp_path / "raw")
    result = run(tmp_path / "ema", ema_decay=0.9)
    raw, ema = (checkpoint.load(tmp_path / name / LAST) for name in ("raw", "ema"))
    assert all(torch.equal(ema[0][name], value) for name, value in raw[0].items())
    average, meta = checkpoint.load(tmp_path / "ema" / LAST_EMA)
    assert (raw[1]["weights"], ema[1]["weights"], meta["weights"]) == ("raw", "raw", "ema")
    state = checkpoint.load(tmp_path / "ema" / STATE)[0]
    assert all(torch.equal(state[f"ema/{name}"], value) for name, value in average.items())
    best, meta = checkpoint.load(tmp_path / "ema" / BEST)
    assert meta["weights"] == "ema"
    assert best["net.1.num_batches_tracked"] == meta["metrics"]["step"]
    net = Toy()
    net.load_state_dict(best)
    net.eval()
    val = ToySource(11, 2, shuffle=False)
    with torch.no_grad():
        loss = sum(len(b["event/x"]) * net.loss(b)[0].item() for b in val.batches(val.plan(0))) / 11
    assert result.best["val/loss"] == pytest.approx(loss, rel=1e-6)


def test_batches_that_are_not_finite_are_counted_and_bounded(tmp_path: Path) -> None:
    """Every second step is bad: three in the first two epochs of 29 events, the fourth is one too many."""

    def losses(step: int) -> float:
        return float("nan") if step % 2 == 0 else 0.5

    module = Scripted([1.0, 1.0, 1.0], losses)
    config = TrainerConfig.model_validate(CONFIG | {"skip_nonfinite": 3})
    with pytest.raises(
        TrainingError, match=r"4 losses .* were not finite in this run, the last in epoch 2, step 4 \(ev.*raise skip_n"
    ):
        fit(module, ToySource(N_TRAIN, 1), ToySource(8, 2), config, tmp_path)
    assert [line["train/skipped"] for line in lines(tmp_path)] == [2]
    module = Scripted([1.0, 1.0, 1.0], losses)
    config = TrainerConfig.model_validate(CONFIG | {"skip_nonfinite": 6})
    fit(module, ToySource(N_TRAIN, 1), ToySource(8, 2), config, tmp_path / "more")
    assert [line["train/skipped"] for line in lines(tmp_path / "more")] == [2, 4, 6]


@pytest.mark.parametrize("n_val", [None, 0])
def test_without_validation_events_the_training_loss_decides(tmp_path: Path, n_val: int | None) -> None:
    module = Scripted([], lambda step: [3.0, 1.0, 2.0][step - 1])
    config = TrainerConfig.model_validate(CONFIG)
    val = None if n_val is None else ToySource(n_val, 2)
    result = fit(module, ToySource(8, 1), val, config, tmp_path)
    assert result.best["epoch"] == 2
    assert "val/loss" not in result.best


def test_fewer_events_than_a_batch(tmp_path: Path) -> None:
    result = fit(Toy(), ToySource(3, 1), ToySource(1, 2), TrainerConfig.model_validate(CONFIG), tmp_path)
    assert result.steps == 3


def test_no_events(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no event to train on; check the split"):
        fit(Toy(), ToySource(0, 1), None, TrainerConfig.model_validate(CONFIG), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_names_epoch_step_and_events(tmp_path: Path) -> None:
    """The second step of the second epoch; the state of the first epoch stays."""
    with pytest.raises(TrainingError) as caught:
        fit(Diverging("loss"), ToySource(N_TRAIN, 1), None, TrainerConfig.model_validate(CONFIG), tmp_path)
    ids = (ToySource(N_TRAIN, 1).plan(1)[1] + 1000).tolist()
    assert str(caught.value) == (
        f"{tmp_path}: the loss is not finite in epoch 2, step 2 (events with id {', '.join(map(str, ids[:6]))} and 2 "
        f"more); lower lr or clip_norm, look at these events, or leave out up to N such batches (skip_nonfinite=N); "
        "state.safetensors holds the last good state"
    )
    assert checkpoint.load(tmp_path / STATE)[1]["position"]["epoch"] == 1
    assert checkpoint.load(tmp_path / LAST)[0]["weight"].isfinite().all()


def test_an_unknown_metric_of_the_training_is_refused_with_the_first_line(tmp_path: Path) -> None:
    """What a loss says is known once it has been asked."""
    module = Scripted([1.0] * 3)
    config = TrainerConfig.model_validate(CONFIG | {"monitor": "train/abs"})
    with pytest.raises(TrainingError, match="train/abs: no such metric"):
        fit(module, ToySource(8, 1), ToySource(8, 2), config, tmp_path)
    assert module.steps == 1
    assert not (tmp_path / METRICS).exists()


@pytest.mark.parametrize("drain_steps", [2, 3, 32])
def test_losses_that_are_fetched_rarely_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drain_steps: int
) -> None:
    """As on a GPU: the same metrics, and the step that went wrong is named, not the one that noticed it."""
    run(tmp_path / "often")
    monkeypatch.setitem(DRAIN_STEPS, "cpu", drain_steps)
    run(tmp_path / "rarely")
    for name in (BEST, LAST):
        assert (tmp_path / "often" / name).read_bytes() == (tmp_path / "rarely" / name).read_bytes()
    with pytest.raises(TrainingError, match="the loss is not finite in epoch 2, step 2 "):
        fit(Diverging("loss"), ToySource(N_TRAIN, 1), None, TrainerConfig.model_validate(CONFIG), tmp_path / "bad")
    assert checkpoint.load(tmp_path / "bad" / STATE)[0]["model/weight"].isfinite().all()


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_gradient_that_is_not_finite(tmp_path: Path, clip: float) -> None:
    """Also where nothing is clipped."""
    source = ToySource(N_TRAIN, 1, ids=False)
    config = TrainerConfig.model_validate(CONFIG | {"clip_norm": clip})
    with pytest.raises(TrainingError, match=r"the gradient is not finite in epoch 2, step 2 \(events at positions \d"):
        fit(Diverging("gradient"), source, None, config, tmp_path)
    for name in (BEST, LAST):
        assert checkpoint.load(tmp_path / name)[0]["weight"].isfinite().all()


def test_a_loss_that_is_not_finite_at_once(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="epoch 1, step 1 .*skip_nonfinite=N.$"):
        scripted(tmp_path, [1.0], lambda step: float("inf"))
    assert not resumable(tmp_path)


def test_a_validation_loss_that_is_not_finite(tmp_path: Path) -> None:
    """Also where batches of the training may be left out: which weights were best would not be known."""
    told = r"after epoch 2, batch 1 of the validation \(.*\); lower lr, .*: skip_nonfinite leaves out training batches"
    with pytest.raises(TrainingError, match=f"the validation loss is not finite {told}"):
        scripted(tmp_path, [1.0, float("nan"), 1.0], skip_nonfinite=5)
    assert resumable(tmp_path)


class Diverging(nn.Module):
    """Fails in step 6: the second of the second epoch."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.weight, self.how, self.calls = nn.Parameter(torch.ones(2, 2)), how, 0

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        loss = self.weight.square().mean()
        if self.calls == STEPS + 2:
            # sqrt has an infinite slope at 0, where its value is fine
            loss = (
                loss * float("nan") if self.how == "loss" else (self.weight - self.weight.detach()).pow(2).sum().sqrt()
            )
        return loss, {}


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert pick_device("auto") == pick_device("cuda")
    else:
        assert pick_device("auto") == torch.device("cpu")
        with pytest.raises(TrainingError, match="no GPU is available; set device to auto or cpu"):
            pick_device("cuda")
