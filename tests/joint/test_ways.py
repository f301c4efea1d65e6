"""Steps by a clock that ticks once per look: what each part gets is arithmetic."""

from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

from frz.joint import ways
from frz.joint.ways import Loop, Spent, Step, TimedReader
from frz.training.config import TrainerConfig

CPU = torch.device("cpu")


class Line(nn.Module):
    """y = w x, pulled to y = 3."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def loss(self, batch):
        return (batch["x"] @ self.weight - 3).square().mean(), {}


class Source:
    """Three batches of two events, read from `reader` if there is one."""

    n_events = 6

    def __init__(self, reader=None):
        self.reader = reader

    def plan(self, epoch):
        return [np.array([2 * i, 2 * i + 1]) for i in range(3)]

    def batches(self, plan, start=0):
        for positions in plan[start:]:
            if self.reader is not None:
                self.reader.events(positions)
            yield {"x": torch.ones(len(positions), 1)}


class Store:
    n_events = 6

    def events(self, positions, names=None):
        return {"event/id": positions}


def trainer(**changes):
    return TrainerConfig.model_validate({"lr": 0.1, "weight_decay": 0.0, "device": "cpu", **changes})


@pytest.fixture
def ticking(monkeypatch):
    monkeypatch.setattr(ways.time, "perf_counter", count().__next__)


@pytest.mark.usefixtures("ticking")
def test_every_part_gets_its_ticks():
    # one before the loop, then after the batch came and after the step
    spent = Loop(Source(), Step(Line(), trainer(), CPU)).run(3)
    assert spent == Spent(events=6, reading=3, copies=0, compute=3)
    assert spent.seconds == 6


@pytest.mark.usefixtures("ticking")
def test_behind_a_backbone_reading_is_what_the_reader_took():
    # a read is two ticks one apart, so the wait for a batch is three: one of reading, two of the backbone
    reader = TimedReader(Store())
    spent = Loop(Source(reader), Step(Line(), trainer(), CPU), reader).run(2)
    assert spent == Spent(events=4, reading=2, copies=0, compute=2 * 2 + 2)
    assert reader.n_events == 6


def test_steps_are_those_of_plain_torch():
    module, plain = Line(), Line()
    Loop(Source(), Step(module, trainer(clip_norm=0.5), CPU)).run(3)
    optimiser = torch.optim.AdamW(plain.parameters(), lr=0.1, weight_decay=0.0)
    for _ in range(3):
        optimiser.zero_grad()
        plain.loss({"x": torch.ones(2, 1)})[0].backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimiser.step()
    torch.testing.assert_close(module.weight, plain.weight)


def test_no_more_than_an_epoch_is_run():
    loop = Loop(Source(), Step(Line(), trainer(), CPU))
    assert loop.run(100).events == loop.n_batches * 2 == 6
