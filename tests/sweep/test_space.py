"""Sweep configs become heads: the same ones on every machine, under names that stay."""

import pytest

from frz.config import parse
from frz.errors import ConfigError
from frz.sweep.space import Range, SweepConfig, expand, short_names

BASE = {
    "name": "base",
    "head": "regression",
    "features": {"backbone": "b", "data": "d"},
    "trainer": {"max_epochs": 2, "seed": 5},
}


def heads(**settings):
    return expand(parse(SweepConfig, {"name": "s", "base": BASE, **settings}, "sweep.yaml"), BASE, "sweep.yaml")


def test_a_grid_is_the_product_in_its_order():
    found = heads(over={"model.dropout": [0.0, 0.1], "trainer.lr": [1e-3, 1e-2]})
    assert [point.config.name for point in found] == ["s-d0-l0.001", "s-d0-l0.01", "s-d0.1-l0.001", "s-d0.1-l0.01"]
    assert [(point.config.model["dropout"], point.config.trainer.lr) for point in found] == [
        (0.0, 1e-3),
        (0.0, 1e-2),
        (0.1, 1e-3),
        (0.1, 1e-2),
    ]
    assert all(point.config.trainer.seed == 5 for point in found)
    assert "model" not in BASE


def test_ranges_of_a_grid_are_even_with_both_ends():
    found = heads(over={"trainer.lr": {"log": [1e-4, 1e-2], "n": 3}, "model.dropout": {"uniform": [0, 0.2], "n": 3}})
    assert sorted({point.config.trainer.lr for point in found}) == [1e-4, 1e-3, 1e-2]
    assert sorted({point.config.model["dropout"] for point in found}) == [0.0, 0.1, 0.2]


def test_random_draws_are_the_same_again_and_more_keep_the_first():
    over = {"trainer.lr": {"log": [1e-4, 1e-2]}, "model.regression_num_layers": [1, 2, 3]}
    few, many = heads(over=over, random=5), heads(over=over, random=50)
    assert [point.chosen for point in few] == [point.chosen for point in many[:5]]
    rates = [point.config.trainer.lr for point in many]
    assert len(set(rates)) == 50
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 15 < sum(rate < 1e-3 for rate in rates) < 35  # half of the decades
    assert {point.config.model["regression_num_layers"] for point in many} == {1, 2, 3}
    assert [p.chosen for p in heads(over=over, random=5, draw_seed=1)] != [p.chosen for p in few]
    # the first draw, so that no version of numpy changes sweeps in silence
    assert few[0].chosen == {"trainer.lr": 0.0001055, "model.regression_num_layers": 1}


def test_a_number_in_a_name_is_the_exact_setting():
    for point in heads(over={"trainer.lr": {"log": [1e-4, 1e-2]}}, random=20):
        assert float(point.config.name.removeprefix("s-l")) == point.config.trainer.lr


def test_seeds_count_up_from_that_of_the_base():
    found = heads(over={"model.dropout": [0.1]}, seeds=3)
    assert [point.config.name for point in found] == ["s-d0.1-s5", "s-d0.1-s6", "s-d0.1-s7"]
    assert [point.config.trainer.seed for point in found] == [5, 6, 7]
    assert all(point.chosen == {"model.dropout": 0.1} for point in found)


def test_equal_choices_are_one_head():
    assert len(heads(over={"model.dropout": [0.1, 0.1]})) == 1


def test_names_are_initials_where_these_tell_keys_apart():
    keys = ["model.regression_hidden_dim", "trainer.lr", "model.line", "a.seed", "b.seed"]
    assert short_names(keys) == {
        "model.regression_hidden_dim": "rhd",
        "trainer.lr": "lr",
        "model.line": "line",
        "a.seed": "a_seed",
        "b.seed": "b_seed",
    }


def test_values_that_are_no_numbers_can_stand_in_a_name():
    found = heads(over={"model.hit_nets": [[], ["raw"]], "trainer.schedule": ["cosine"], "features.data": ["x@2"]})
    assert len({point.config.name for point in found}) == 2
    assert not any(character in point.config.name for point in found for character in "/@[]' ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"over": {"trainer.lrr": [1]}}, "unknown key 'trainer.lrr'"),
        ({"over": {"trainer.lr": [-1]}}, "trainer.lr"),
        ({"over": {"name.x": [1]}}, "'name' in over.name.x holds a value"),
        ({"over": {"trainer.lr": 3}}, "over.trainer.lr = 3"),
        ({"over": {"trainer.lr": {"log": [1e-4, 1e-2]}}}, "without a number of points"),
        ({"over": {"trainer.lr": {"log": [0, 1], "n": 2}}}, "above 0"),
        ({"over": {"trainer.lr": {"logs": [0, 1]}}}, "unknown key 'logs'"),
        ({"over": {"trainer.lr": {"log": [1, 2], "choice": [1]}}}, "one of choice, uniform and log"),
        ({"ovre": {}}, "unknown key 'ovre'"),
        ({"search": "optuna", "random": 3, "over": {"trainer.lr": [1]}}, "exclude"),
        ({"search": "optuna"}, "keys to search"),
        ({"over": {"features.data": ["x/y", "x_y"]}}, "'x/y' and 'x_y' would both be called 'x_y'"),
        ({"over": {"model.loss": [None, "none"]}}, "None and 'none' would both be called"),
        ({"over": {"model.a": ["x", "x-b1"], "model.b": ["1-b1", "1"]}}, "different settings"),
        ({"over": {"trainer.seed": [0, 1]}, "seeds": 2}, "exclude"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(settings, message):
    with pytest.raises(ConfigError) as caught:
        heads(**settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "sweep.yaml" in str(caught.value)


def test_a_range_covers_its_ends():
    assert Range(uniform=(1, 3)).at(0.5) == 2.0
    assert [Range(choice=["a", "b"]).at(u) for u in (0.0, 0.49, 0.5, 1.0)] == ["a", "a", "b", "b"]
