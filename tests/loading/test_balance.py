"""Balanced epochs: frequencies within statistics at fixed seeds, pure functions, clear refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frz.errors import ConfigError
from frz.loading.balance import balanced, classes_of, draw_epoch
from frz.loading.source import ReaderSource
from frz.store.schema import Array, Axis, Schema
from frz.store.table import EventTable
from frz.training import checkpoint
from frz.training.config import BalanceConfig, TrainerConfig
from frz.training.loop import fit
from frz.training.record import BEST, LAST, STATE
from frz.training.source import Batch

SIZES = np.array([9000, 900, 90, 10])
CLASSES = np.random.default_rng(0).permutation(np.repeat(np.arange(4), SIZES))


def table(labels: list[Any], dtype: str = "int64") -> EventTable:
    schema = Schema(arrays={"event/id": Array(dtype="int64"), "event/label": Array(dtype=dtype)})
    return EventTable(schema, {"event/id": np.arange(len(labels)), "event/label": np.array(labels, dtype)})


def tracks(labels: list[list[float]]) -> EventTable:
    """Events with so many tracks; the charge is the second column."""
    flat = np.array([label for event in labels for label in event], "float32")
    schema = Schema(
        axes={"track": Axis()},
        arrays={
            "event/id": Array(dtype="int64"),
            "track/parameters": Array(dtype="float32", shape=(2,), columns=("pt", "q")),
        },
    )
    arrays = {
        "event/id": np.arange(len(labels)),
        "track/offsets": np.cumsum([0, *map(len, labels)]),
        "track/parameters": np.stack([flat + 0.5, flat], axis=1).astype("float32"),
    }
    return EventTable(schema, arrays)


@pytest.mark.parametrize(
    ("mode", "weight"), [("inverse", 1.0 / SIZES), ("sqrt", 1.0 / np.sqrt(SIZES))], ids=["inverse", "sqrt"]
)
def test_events_come_with_their_weights(mode: str, weight: NDArray[np.float64]) -> None:
    """Classes within 4 standard deviations of a binomial; single events of a class by chi squared."""
    n, epochs = len(CLASSES), 20
    drawn = np.concatenate([draw_epoch(CLASSES, mode, seed=3, epoch=epoch) for epoch in range(epochs)])
    assert len(drawn) == epochs * n
    share = weight * SIZES / (weight * SIZES).sum()
    counts = np.bincount(CLASSES[drawn])
    assert (np.abs(counts - epochs * n * share) < 4 * np.sqrt(epochs * n * share * (1 - share))).all()
    per_event = np.bincount(drawn, minlength=n)
    for number, size in enumerate(SIZES):
        of_class = per_event[number == CLASSES]
        chi2 = ((of_class - of_class.mean()) ** 2 / of_class.mean()).sum()
        assert abs(chi2 - (size - 1)) < 4 * np.sqrt(2 * (size - 1))


def test_draws_are_a_function_of_seed_and_epoch_alone() -> None:
    draws = {(s, e): draw_epoch(CLASSES, "sqrt", seed=s, epoch=e).tobytes() for s in range(3) for e in range(3)}
    assert len(set(draws.values())) == 9
    np.random.default_rng(1).random(5)
    assert draw_epoch(CLASSES.copy(), "sqrt", seed=2, epoch=1).tobytes() == draws[2, 1]


def test_the_draws_are_what_they_always_were() -> None:
    """Written out: a class by its share, an event of it by number, from counters that the order never uses."""
    classes = np.array([0, 1, 0, 0, 2, 0])
    generator = np.random.Philox(key=np.array([7, 2], np.uint64), counter=np.array([0, 0, 0, 1], np.uint64))
    bits = [int(raw) >> 11 for raw in generator.random_raw(12)]
    members = {0: [0, 2, 3, 5], 1: [1], 2: [4]}
    expected = []
    for first, second in zip(bits[:6], bits[6:], strict=True):
        chosen = members[first * 3 // 2**53]
        expected.append(chosen[second * len(chosen) // 2**53])
    assert draw_epoch(classes, "inverse", seed=7, epoch=2).tolist() == sorted(expected)


def test_no_events_no_draws() -> None:
    assert draw_epoch(np.zeros(0, np.int64), "sqrt", seed=0, epoch=0).tolist() == []
    assert balanced(BalanceConfig(by="event/label"), table([1, 2]), np.zeros(0, np.int64), 0)(3).tolist() == []


@pytest.mark.parametrize("dtype", ["bool", "int8", "float32", "uint16"])
def test_classes_are_numbered(dtype: str) -> None:
    labels = [1, 0, 1, 1, 0]
    assert classes_of(table(labels, dtype), "event/label", None, np.array([3, 1, 0])).tolist() == _numbered([1, 0, 1])


def _numbered(labels: list[int]) -> list[int]:
    """From the rarest on."""
    order = sorted(set(labels), key=lambda label: (labels.count(label), label))
    return [order.index(label) for label in labels]


def test_an_event_is_of_the_class_of_its_rarest_member() -> None:
    """Label 1 is in 4 events (however often), -1 in 2, 5 in 1; two events have no track."""
    reader = tracks([[1, 1, 1], [1, -1], [], [1], [-1, -1, 5], [], [1]])
    assert classes_of(reader, "track/parameters", "q", np.arange(7)).tolist() == [2, 1, 3, 2, 0, 3, 2]
    # among these events 1 and -1 are in two each: the smaller label counts
    assert classes_of(reader, "track/parameters", "q", np.array([0, 1, 4])).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"by": "track/charge"}, r"^trainer.balance: there is no array 'track/charge'.*track/parameters"),
        ({"by": "track/parameters"}, r"holds \(2,\) values, not one label; name one of its columns: pt, q"),
        ({"by": "track/parameters", "column": "eta"}, r"no column 'eta'; name one of its columns: pt, q"),
        ({"by": "track/parameters", "column": "pt"}, r"holds 1.5, which is no label"),
        ({"by": "event/id", "column": "q"}, r"event/id has no column 'q'; leave column out"),
    ],
)
def test_what_is_no_label_is_refused(config: dict[str, str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        balanced(BalanceConfig.model_validate(config), tracks([[1], [-1]]), np.arange(2), 0)


@pytest.mark.parametrize(("dtype", "missing"), [("int64", -1), ("float32", float("nan"))])
def test_events_without_a_target_are_never_drawn(dtype: str, missing: float) -> None:
    """Heads do not learn from them; an epoch stays as long as it was."""
    labels = [missing, 1, 0, missing, 0, 0, missing, 1]
    draw = balanced(BalanceConfig(by="event/label"), table(labels, dtype), np.arange(8), 0)
    assert draw is not None
    drawn = np.concatenate([draw(epoch) for epoch in range(50)])
    assert len(drawn) == 50 * 8
    assert set(drawn.tolist()) == {1, 2, 4, 5, 7}
    assert classes_of(table([-1.0, 1.0, 1.0], "float32"), "event/label", None, np.arange(3)).tolist() == [0, 1, 1]


def test_infinite_labels_and_single_classes_are_refused() -> None:
    config = BalanceConfig(by="event/label")
    with pytest.raises(ConfigError, match="all 2 training events that have a target are of one class of event/label"):
        balanced(config, table([1, float("nan"), 1], "float64"), np.arange(3), 0)
    with pytest.raises(ConfigError, match="all 0 training events that have a target"):
        balanced(config, table([-1, -1]), np.arange(2), 0)
    with pytest.raises(ConfigError, match="holds inf, which is no label"):
        balanced(config, table([1, float("inf")], "float64"), np.arange(2), 0)
    with pytest.raises(ConfigError, match="all 2 training events are of one class of event/label"):
        balanced(config, table([1, 0, 1]), np.array([0, 2]), 0)


class Count(nn.Module):
    """One weight per event of the table: its gradient says which events came, and how often."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return -self.weight[batch["event/id"]].mean(), {}


def train(folder: Path) -> Count:
    """Two epochs of plain gradient steps of rate 1 on a split of 40 events; batches of 8, saved after every step."""
    reader = table([int(i % 10 == 0) for i in range(50)])
    split = np.arange(10, 50)
    keys = {"optimiser": "sgd", "betas": (0.0, 0.9), "weight_decay": 0.0, "clip_norm": 0.0, "lr": 1.0}
    keys |= {"schedule": "none", "max_epochs": 2, "batch_size": 8, "checkpoint_minutes": 0, "device": "cpu"}
    config = TrainerConfig.model_validate(keys | {"balance": {"by": "event/label"}})
    draw = balanced(config.balance, reader, split, config.data_seed)
    source = ReaderSource(reader, ["event/id"], 8, positions=split, seed=config.data_seed, draw=draw)
    module = Count(50)
    fit(module, source, None, config, folder)
    return module


def test_the_loop_trains_on_the_draws(tmp_path: Path) -> None:
    """40 events per epoch from the split alone, classes in equal shares, each as often as it was drawn."""
    module = train(tmp_path)
    counts = (module.weight.detach() * 8).round().numpy().astype(int)
    classes = np.array([int(i % 10 == 0) for i in range(10, 50)])
    drawn = [draw_epoch(1 - classes, "inverse", seed=0, epoch=epoch) for epoch in range(2)]
    assert counts.tolist() == [0] * 10 + np.bincount(np.concatenate(drawn), minlength=40).tolist()
    assert 25 <= counts[::10].sum() <= 55  # 4 of 40 events, half of 80 draws


def test_an_interrupted_balanced_run_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "whole")
    batches = ReaderSource.batches

    def broken(source: ReaderSource, plan: Any, start: int = 0) -> Any:
        for number, batch in enumerate(batches(source, plan, start)):
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(ReaderSource, "batches", broken)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut")
    assert checkpoint.load(tmp_path / "cut" / STATE)[1]["position"]["batch"] == 3
    train(tmp_path / "cut")
    for name in (BEST, LAST):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
