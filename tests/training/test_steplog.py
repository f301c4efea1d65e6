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
    for batch, (weight, values) in enumerate(STEPS):
        log.add(batch, weight, scalars(values))
    assert log.drain() is None
    means = log.means("train")
    assert means["train/loss"] == pytest.approx((8 * 0.3 + 8 * 0.1 + 3 * 0.7) / 19)
    assert means["train/a"] == pytest.approx((8 * 1 + 3 * 4) / 11)
    assert log.latest("loss") == {"loss": pytest.approx(0.7)}
    assert log.latest("b") == {}


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_restored_log_goes_on_with_the_same_bits(cut: int) -> None:
    whole, first = StepLog(), StepLog()
    for batch, (weight, values) in enumerate(STEPS):
        whole.add(batch, weight, scalars(values))
    whole.drain()
    for batch, (weight, values) in enumerate(STEPS[:cut]):
        first.add(batch, weight, scalars(values))
    first.drain()
    second = StepLog.from_tensors(first.tensors())
    for batch, (weight, values) in enumerate(STEPS[cut:]):
        second.add(batch, weight, scalars(values))
    second.drain()
    assert second.means("x") == whole.means("x")


def test_the_first_value_that_is_not_finite_is_told() -> None:
    log = StepLog()
    log.add(0, 1, scalars({"loss": 1.0, "part": math.inf}))
    assert log.drain(("loss",)) is None
    log.add(1, 1, scalars({"loss": 1.0}))
    log.add(2, 1, scalars({"loss": math.nan, "norm": math.inf}))
    log.add(3, 1, scalars({"loss": math.inf}))
    assert log.drain(("loss", "norm")) == (2, "loss")
    assert log.means("x")["x/part"] is None


def test_other_dtypes_and_shapes_of_one_number() -> None:
    log = StepLog()
    log.add(0, 1, {"half": torch.tensor(0.5, dtype=torch.bfloat16), "one": torch.tensor([2.0]), "n": torch.tensor(3)})
    log.drain()
    assert log.means("x") == {"x/half": 0.5, "x/one": 2.0, "x/n": 3.0}


def test_processes_that_share_batches_make_one_log() -> None:
    """Each saw a part of batch 0, only one saw any of batch 1."""
    theirs = [(0, 1.0, {"loss": 6.0}), (0, 1.0, {"rest": 2.0})]
    log = StepLog()
    log.add(0, 3.0, scalars({"loss": 2.0}))
    log.add(1, 2.0, scalars({"loss": 1.0}))
    assert log.drain(gather=lambda ours: [ours, theirs]) is None
    assert log.means("x") == {"x/loss": pytest.approx((4 * 3.0 + 2 * 1.0) / 6), "x/rest": 2.0}
    assert log.tensors()["loss"].tolist() == [[3.0, 1.0], [4.0, 2.0]]
