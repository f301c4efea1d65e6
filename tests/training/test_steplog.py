"""Step logs: weighted means, and the same bits after any interruption."""

import math

import pytest
import torch

from frz.training.steplog import StepLog

STEPS = [(8.0, {"loss": 0.3, "a": 1.0}), (8.0, {"loss": 0.1}), (3.0, {"loss": 0.7, "a": 4.0})]


def scalars(values: dict[str, float]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}


def test_means_are_weighted_by_the_events_of_the_steps_that_have_the_value() -> None:
    log = StepLog()
    for weight, values in STEPS:
        log.add(weight, scalars(values))
    assert log.drain() is None
    means = log.means("train")
    assert means["train/loss"] == pytest.approx((8 * 0.3 + 8 * 0.1 + 3 * 0.7) / 19)
    assert means["train/a"] == pytest.approx((8 * 1 + 3 * 4) / 11)
    assert log.latest("loss") == pytest.approx(0.7)
    assert math.isnan(log.latest("b"))


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_restored_log_goes_on_with_the_same_bits(cut: int) -> None:
    whole, first = StepLog(), StepLog()
    for weight, values in STEPS:
        whole.add(weight, scalars(values))
    whole.drain()
    for weight, values in STEPS[:cut]:
        first.add(weight, scalars(values))
    first.drain()
    second = StepLog.from_tensors(first.tensors(), first.n_steps)
    for weight, values in STEPS[cut:]:
        second.add(weight, scalars(values))
    second.drain()
    assert second.means("x") == whole.means("x")
    assert second.n_steps == 3


def test_the_first_value_that_is_not_finite_is_told() -> None:
    log = StepLog()
    log.add(1, scalars({"loss": 1.0, "part": math.inf}))
    assert log.drain(("loss",)) is None
    log.add(1, scalars({"loss": 1.0}))
    log.add(1, scalars({"loss": math.nan, "norm": math.inf}))
    log.add(1, scalars({"loss": math.inf}))
    assert log.drain(("loss", "norm")) == (2, "loss")
    assert log.means("x")["x/part"] is None


def test_other_dtypes_and_shapes_of_one_number() -> None:
    log = StepLog()
    log.add(1, {"half": torch.tensor(0.5, dtype=torch.bfloat16), "one": torch.tensor([2.0]), "n": torch.tensor(3)})
    log.drain()
    assert log.means("x") == {"x/half": 0.5, "x/one": 2.0, "x/n": 3.0}
