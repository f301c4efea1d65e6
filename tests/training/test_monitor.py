"""Which metric decides, and which of its values are better."""

from typing import Any

import pytest

from frz.errors import TrainingError
from frz.training.config import TrainerConfig
from frz.training.monitor import Monitor, better_side


def monitor(name: str, mode: Any = "auto", has_val: bool = True) -> Monitor:
    return Monitor(TrainerConfig(monitor=name, monitor_mode=mode), has_val)


@pytest.mark.parametrize(
    ("name", "sign"),
    [("val/loss", 1), ("val/pt/rmse", 1), ("val/pt/relative_width", 1), ("val/q/auc", -1), ("train/accuracy", -1)],
)
def test_the_name_tells_which_values_are_better(name: str, sign: float) -> None:
    assert monitor(name).value({name: 0.5}) == 0.5 * sign
    assert monitor(name, "max").value({name: 0.5}) == -0.5
    assert monitor(name).value({name: None}) is None
    assert monitor(name).value({}) is None


@pytest.mark.parametrize("name", ["val/pt/bias", "val/pt/pull_width", "val/loss/pt", "val/aucs", "val/auc_error"])
def test_a_name_that_does_not_tell_needs_a_mode(name: str) -> None:
    with pytest.raises(TrainingError, match=f"monitor = {name}: not known .*; set monitor_mode to min or max"):
        monitor(name).check([name, "val/loss"])
    with pytest.raises(TrainingError, match="no such metric.*have: val/loss"):  # the name comes first
        monitor(name).check(["val/loss"])
    monitor(name, "min").check([name])
    assert monitor(name, "min").value({name: 2.0}) == 2.0


def test_of_every_part_of_the_loss_small_values_are_better() -> None:
    part = monitor("val/pt")
    part.check(["val/loss", "val/pt"], parts=["val/loss", "val/pt"])
    assert part.score({"val/pt": 0.5}) == {"score": 0.5, "monitor": "val/pt", "monitor_mode": "min"}
    told = monitor("val/efficiency")
    told.check(["val/efficiency"], parts=["val/efficiency"])
    assert told.mode == "max"  # what a name says stands


def test_without_validation_events() -> None:
    assert monitor("val/loss", has_val=False).name == "train/loss"
    assert monitor("train/abs", has_val=False).name == "train/abs"
    with pytest.raises(TrainingError, match="monitor = val/auc: no validation events to measure it on"):
        monitor("val/auc", has_val=False)


def test_unknown_names() -> None:
    monitor("val/auc").check(["val/loss", "val/auc"])
    with pytest.raises(
        TrainingError, match=r"monitor = val/aux: no such metric; did you mean 'val/auc'\? \(have: val/auc, val/loss\)"
    ):
        monitor("val/aux").check(["val/loss", "val/q/auc"])
    known = ["val/loss", "val/pt/rmse", "val/eta/rmse", "val/saps/every_set"]
    with pytest.raises(TrainingError, match="have: val/eta/rmse, val/loss, val/pt/rmse, val/saps/every_set"):
        monitor("train/aux").check(known, parts=["val/saps/every_set"])


def test_a_name_may_leave_the_field_out_where_one_alone_has_it() -> None:
    measured = {"val/label/auc": 0.8, "val/label/auprc": 0.4, "val/events": 9.0}
    assert monitor("val/auc").named(measured) == {**measured, "val/auc": 0.8}
    assert monitor("val/label/auc").named(measured) == measured
    two = {**measured, "val/q/auc": 0.5}
    assert monitor("val/auc").named(two) == two


@pytest.mark.parametrize(
    ("name", "side"),
    [("val/loss", "min"), ("q/auc", "max"), ("pt/bias", 0.0), ("pt/pull_width", 1.0), ("pt", None), ("auc_loss", None)],
)
def test_the_side_that_a_name_tells(name: str, side: Any) -> None:
    assert better_side(name) == side
