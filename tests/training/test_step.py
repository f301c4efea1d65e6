"""A step made of several batches against the same step on all their events at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_run import CONFIG, N_TRAIN, ToySource

from frz.errors import TrainingError
from frz.training import checkpoint
from frz.training.config import TrainerConfig
from frz.training.distributed import ALONE
from frz.training.loop import fit
from frz.training.record import LAST
from frz.training.source import Batch
from frz.training.step import Stepper
from frz.training.steplog import StepLog

CPU = torch.device("cpu")


STEEP = 99.0


class Plain(nn.Module):
    """No layer that looks at the whole batch; the slope of the loss is infinite where an input is `STEEP`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.net(batch["event/x"])[:, 0] - batch["event/y"]).square().mean()
        if batch["event/x"][0, 0] == STEEP:
            loss = loss + (self.net[-1].weight - self.net[-1].weight.detach()).square().sum().sqrt()
        return loss, {}


class Normed(Plain):
    """With statistics that a batch moves."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(3), *self.net)


def stepper(module: nn.Module, **changes: Any) -> Stepper:
    config = TrainerConfig.model_validate(CONFIG | changes)
    return Stepper(module, torch.optim.SGD(module.parameters(), lr=0.1), config, CPU, ALONE)


def batches(sizes: Sequence[int], bad: Sequence[int] = (), value: float = float("nan")) -> list[tuple[int, int, Batch]]:
    """Consecutive events; the batches in `bad` have one that is not finite."""
    source = ToySource(64, 3)
    edges = np.cumsum([0, *sizes])
    made = []
    for index, (first, last) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        batch = {"event/x": source.x[first:last].clone(), "event/y": source.y[first:last]}
        if index in bad:
            batch["event/x"][0, 0] = value
        made.append((index, int(last - first), batch))
    return made


def joined(parts: Sequence[tuple[int, int, Batch]]) -> tuple[int, Batch]:
    return sum(n for _, n, _ in parts), {name: torch.cat([b[name] for *_, b in parts]) for name in parts[0][2]}


@pytest.mark.parametrize("sizes", [(8, 8, 8, 8), (8, 8, 8, 3), (5,)])
@pytest.mark.parametrize("clip", [0.0, 0.3])
def test_batches_that_add_up_are_one_large_batch(sizes: tuple[int, ...], clip: float) -> None:
    """Weights and norm to 1e-6, whatever the sizes of the batches."""
    ours, theirs = Plain(), Plain()
    parts = batches(sizes)
    n, whole = joined(parts)
    logs = [StepLog(), StepLog()]
    for net, group, log in ((ours, parts, logs[0]), (theirs, [(0, n, whole)], logs[1])):
        taken = stepper(net, clip_norm=clip).take(group, n, log)
        assert (taken.moved, taken.skipped) == (True, ())
        log.drain()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)
    assert logs[0].means("x") == pytest.approx(logs[1].means("x"), rel=1e-6)


@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_a_run_of_small_batches_is_a_run_of_large_ones(tmp_path: Path, accumulate: int) -> None:
    """Three epochs of 8 + 8 + 8 + 5 events, steps of 16, 24 or 32 events, the last one of an epoch of those left."""

    class Joined(ToySource):
        def plan(self, epoch: int) -> Any:
            plan = super().plan(epoch)
            return [np.concatenate(plan[i : i + accumulate]) for i in range(0, len(plan), accumulate)]

    found = {}
    for name, source, size in (("small", ToySource(N_TRAIN, 1), accumulate), ("large", Joined(N_TRAIN, 1), 1)):
        config = TrainerConfig.model_validate(CONFIG | {"accumulate": size, "optimiser": "sgd"})
        result = fit(Plain(), source, ToySource(11, 2, shuffle=False), config, tmp_path / name)
        found[name] = checkpoint.load(tmp_path / name / LAST)[0]
        assert result.steps == 3 * -(-4 // accumulate)
        assert result.last["lr"] == pytest.approx(config.lr * config.final_lr_fraction)
    for name, value in found["large"].items():
        assert torch.allclose(found["small"][name], value, rtol=0, atol=1e-6), name


@pytest.mark.parametrize("value", [float("nan"), float("inf"), STEEP])
@pytest.mark.parametrize("net", [Plain, Normed])
def test_a_batch_that_is_not_finite_leaves_no_trace(net: type[Plain], value: float) -> None:
    """The step is that of the other batches: their weighted mean, and their statistics."""
    ours, theirs = net(), net()
    theirs.load_state_dict(ours.state_dict())
    parts = batches((8, 8, 4), bad=[1], value=value)
    taken = stepper(ours, skip_nonfinite=1).take(parts, 20, log := StepLog())
    assert (taken.moved, taken.skipped) == (True, (1,))
    stepper(theirs).take([parts[0], parts[2]], 12, other := StepLog())
    for name, tensor in theirs.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], tensor, rtol=0, atol=1e-6), name
    assert log.drain(("loss", "grad_norm")) is None
    other.drain()
    assert log.means("x") == pytest.approx(other.means("x"), rel=1e-6)


def test_a_step_without_any_good_batch_is_none() -> None:
    net = Normed()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    taken = stepper(net, skip_nonfinite=5).take(batches((8, 4), bad=[0, 1]), 12, log := StepLog())
    assert (taken.moved, taken.skipped) == (False, (0, 1))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    log.drain()
    assert log.means("x") == {}


def test_looking_for_what_is_not_finite_changes_no_bit() -> None:
    ours, theirs = Normed(), Normed()
    theirs.load_state_dict(ours.state_dict())
    stepper(ours, skip_nonfinite=3).take(batches((8, 8, 4)), 20, StepLog())
    stepper(theirs).take(batches((8, 8, 4)), 20, StepLog())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


def test_the_share_of_clipped_steps() -> None:
    """Steps count alike, whatever their events."""
    net = Plain()
    log = StepLog()
    for index, (clip, n) in enumerate([(1e-3, 8), (1e3, 2), (1e-3, 8), (1e3, 8)]):
        ((_, _, batch),) = batches((n,))
        stepper(net, clip_norm=clip).take([(index, n, batch)], n, log)
    log.drain()
    assert log.means("x")["x/clipped"] == 0.5


class Scaled(nn.Module):
    """One weight of 1 and gradient `slope`."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.weight, self.slope = nn.Parameter(torch.ones(1, 1)), slope

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return (torch.ones(1, 1) @ self.weight * self.slope).mean(), {}


def test_fp16_is_torch_s_scaler() -> None:
    """The same steps written out, overflows among them (the first scale is 65536); the norm is the unscaled one."""
    ours, theirs = Plain(), Plain()
    mine = stepper(ours, precision="fp16", clip_norm=0.3)
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    overflows = []
    for index in range(6):
        ((_, _, batch),) = batches((8,))
        batch["event/y"] = batch["event/y"] * 3000.0 if index < 3 else batch["event/y"]
        log = StepLog()
        taken = mine.take([(index, 8, batch)], 8, log)
        log.drain()
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss, _ = theirs.loss(batch)
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.3)
        scaler.step(optimiser)
        scaler.update()
        overflows.append(not taken.moved)
        assert log.means("x")["x/overflow"] == float(not taken.moved)
        if taken.moved:
            assert log.means("x")["x/grad_norm"] == pytest.approx(norm.item())
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)
    assert mine.scaler.get_scale() == scaler.get_scale()
    assert any(overflows)
    assert not all(overflows)


def test_fp16_that_overflows_at_every_scale() -> None:
    """From 65536 down to 2^-14 it takes 30 halvings; the next is one too many."""
    mine = stepper(Scaled(float("inf")), precision="fp16")
    for _ in range(30):
        assert not mine.take(batches((1,)), 1, StepLog()).moved
    with pytest.raises(TrainingError, match="the gradient overflows float16 however it is scaled; lower lr"):
        mine.take(batches((1,)), 1, StepLog())
