"""Which heads are dropped, and when."""

from math import inf

import pytest

from frz.sweep.halving import rungs, score_at, side_of, survivors
from frz.sweep.space import HalvingConfig
from frz.training.config import TrainerConfig


def test_rungs_grow_by_eta_and_lie_before_the_end():
    assert rungs(HalvingConfig(eta=3, first=1), 27) == [1, 3, 9]
    assert rungs(HalvingConfig(eta=2, first=5), 21) == [5, 10, 20]
    assert rungs(HalvingConfig(first=4), 4) == []


def test_one_in_eta_goes_on_by_the_mean_of_its_seeds():
    scores = {"a": [1.0, 3.0], "b": [1.5, 1.5], "c": [9.0], "d": [0.5, 8.0], "e": [1.9]}
    assert survivors(scores, 3) == {"b", "e"}
    assert survivors(scores, 100) == {"b"}


def test_a_point_that_is_not_finite_is_the_worst():
    assert survivors({"a": [inf], "b": [5.0]}, 2) == {"b"}


def test_the_score_at_a_rung_is_the_latest_there_is():
    lines = [{"epoch": 1, "val/loss": 3.0}, {"epoch": 2, "val/loss": 2.0}, {"epoch": 3}, {"epoch": 4, "val/loss": 1.0}]
    assert [score_at(lines, epoch, "val/loss") for epoch in (1, 2, 3, 4, 9)] == [3.0, 2.0, 2.0, 1.0, 1.0]
    assert score_at([{"epoch": 1}], 1, "val/loss") == inf


def test_lines_are_taken_by_their_epoch_where_there_are_several_in_one():
    lines = [{"epoch": number / 4, "val/loss": 9.0 - number} for number in range(1, 9)]
    assert [score_at(lines, epoch, "val/loss") for epoch in (1, 2)] == [5.0, 1.0]


@pytest.mark.parametrize(
    ("metric", "kept"), [("val/label/auc", "high"), ("val/auc", "high"), ("val/loss", "low"), ("val/pt/bias", "low")]
)
def test_the_better_side_of_a_metric_goes_on(metric, kept):
    side = side_of(metric, TrainerConfig())
    values = {"high": 0.9, "low": 0.1}
    assert survivors(
        {name: [score_at([{"epoch": 1, metric: v}], 1, metric, side)] for name, v in values.items()}, 2
    ) == {kept}


def test_the_config_says_which_side_of_the_monitored_metric_is_better():
    trainer = TrainerConfig(monitor="val/label", monitor_mode="max")
    assert (side_of("val/label", trainer), side_of("val/other", trainer)) == ("max", "min")
