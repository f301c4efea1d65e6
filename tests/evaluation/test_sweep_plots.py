"""Figures of a sweep: one line per head, axes that say what they hold."""

import json

import pytest
from matplotlib.figure import Figure

from frz.evaluation.sweep_plots import draw, sweep_figure


def outcome(number: int, **changes):
    lines = [{"epoch": epoch, "val/loss": 1.0 / (epoch + number)} for epoch in (1, 2, 3)]
    chosen = {"trainer.lr": 10.0**-number, "model.norm": ["batch", None][number % 2]}
    told = {"chosen": chosen, "seed": 0, "score": 1 / (3 + number), "status": "trained", "lines": lines}
    return {**told, **changes}


def texts(figure: Figure, axes: int) -> set[str]:
    return {text.get_text() for text in figure.axes[axes].texts}


def test_every_head_is_a_line_in_both_figures():
    outcomes = [outcome(number) for number in range(4)]
    outcomes[3] |= {"status": "dropped after epoch 2", "lines": outcomes[3]["lines"][:2]}
    figure = sweep_figure(outcomes)
    upper, lower = figure.axes
    heads = [line for line in upper.lines if len(line.get_xdata()) == 3 and line.get_label().startswith("_child")]
    assert len(heads) == 4
    assert [tick.get_text() for tick in upper.get_xticklabels()] == ["lr", "norm", "score"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "the best head",
        "the worst (colour is rank)",
        "dropped or failed on the way",
    ]
    assert {"batch", "None", "1", "0.1", "0.01", "0.001"} <= texts(figure, 0)
    curves = {tuple(line.get_xdata()): line.get_linestyle() for line in lower.lines}
    assert curves == {(1, 2, 3): "-", (1, 2): "--"}


def test_the_best_is_drawn_last_and_stands_lowest():
    upper = sweep_figure([outcome(3), outcome(0), outcome(1)]).axes[0]
    heads = [line for line in upper.lines if len(line.get_xdata()) == 3]
    assert heads[-1].get_ydata()[-1] == 0
    assert heads[0].get_ydata()[-1] == 1


def test_seeds_have_an_axis_and_many_values_are_placed_by_size():
    outcomes = [outcome(0, seed=seed, score=0.1 + seed, chosen={"trainer.lr": 1.0 + seed}) for seed in range(12)]
    figure = sweep_figure(outcomes)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["lr", "seed", "score"]
    assert {"1", "12", "0", "11", "0.1", "11.1"} == texts(figure, 0)


@pytest.mark.parametrize("outcomes", [[outcome(0)], [outcome(0, lines=[{"epoch": 1, "train/loss": 2.0}])]])
def test_a_single_head_can_be_drawn(outcomes, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"outcomes": outcomes}))
    (path,) = draw(tmp_path)
    assert path == str(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 1000


def test_nothing_is_drawn_of_heads_that_all_failed(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"outcomes": [outcome(0, score=None, lines=[])]}))
    assert draw(tmp_path) == []


def test_the_best_has_the_colour_of_the_best_where_large_values_are_better():
    outcomes = [outcome(number, score=0.1 * number, monitor="val/auc", monitor_mode="max") for number in range(3)]
    figure = sweep_figure(outcomes)
    upper, lower = figure.axes
    best, worst = (handle.get_color() for handle in figure.legends[0].legend_handles)
    heads = [line.get_color() for line in lower.lines]
    assert (heads[-1], heads[0]) == (best, worst)  # the worst is drawn first
    assert lower.lines[-1].get_ydata()[0] == outcomes[2]["lines"][0]["val/loss"]
    assert [tick.get_text() for tick in upper.get_xticklabels()][-1] == "val/auc"
