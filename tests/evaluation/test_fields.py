"""Predictions find their truth; widths and their errors agree with closed forms and plain loops."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from frz.evaluation.binning import binned
from frz.evaluation.fields import LEAST, PT_EDGES, Field, Spread, bin_edges, compare, spread_in_bins
from frz.heads.residuals import robust_width
from frz.store.schema import Array, Axis, Schema

NAMES = ("pt", "phi", "q", "eta")
SCHEMA = Schema(
    axes={"slot": Axis()},
    arrays={
        "slot/target": Array(dtype="float32", shape=(4,), columns=NAMES),
        "slot/counts": Array(dtype="bool"),
        "event/energy": Array(dtype="float32"),
    },
)
PREPARED = {
    "slot/target": np.array([[5, 3.1, 1, -1], [0, 0, 0, 0], [20, -3.1, -1, 2], [10, 0, 1, 0]], np.float32),
    "slot/counts": np.array([True, False, True, True]),
    "event/energy": np.array([1, 2, 3], np.float32),
}
PREDICTED = {
    "slot/pt": np.array([6, 9, 10, 10], np.float32),
    "slot/phi": np.array([-3.1, 9, 3.1, 0.5], np.float32),
    "slot/q": np.array([1, 1, 1, 1], np.float32),
    "slot/q_probability": np.array([0.9, 0.9, 0.6, 0.6], np.float32),
    "slot/eta": np.array([-1, 9, 3, 0], np.float32),
    "event/energy": np.array([1, 2, 4], np.float32),
    "event/unknown": np.zeros(3, np.float32),
}


def compared(predictions=PREDICTED, yardstick=None, prepared=PREPARED):
    units = {"pt": "GeV", "phi": "rad"}
    quantities = {"slot": {"pt": prepared["slot/target"][:, 0].astype(np.float64)}}
    found = compare(predictions, yardstick or {}, prepared, SCHEMA, units, quantities)
    return {field.name: field for field in found}


def test_predictions_without_truth_are_left_out_and_only_members_that_count_are_compared():
    fields = compared()
    assert list(fields) == ["pt", "phi", "q", "eta", "energy"]
    np.testing.assert_array_equal(fields["pt"].truth, [5, 20, 10])
    np.testing.assert_array_equal(fields["pt"].found, [6, 10, 10])
    np.testing.assert_array_equal(fields["pt"].against["pt"], [5, 20, 10])
    assert (fields["pt"].unit, fields["eta"].unit) == ("GeV", "")
    assert (fields["pt"].axis, fields["energy"].axis) == ("slot", "event")
    assert fields["pt"].mean is None
    assert fields["energy"].against == {}
    assert len(fields["energy"].truth) == 3


def test_positive_quantities_are_compared_relatively_and_angles_modulo_a_turn():
    fields = compared()
    np.testing.assert_allclose(fields["pt"].residual(fields["pt"].found), [0.2, -0.5, 0])
    assert fields["phi"].kind == "angle"
    turn = 2 * math.pi
    np.testing.assert_allclose(fields["phi"].residual(fields["phi"].found), [turn - 6.2, 6.2 - turn, 0.5], atol=1e-6)
    np.testing.assert_allclose(fields["eta"].residual(fields["eta"].found), [0, 1, 0])
    assert fields["pt"].relative
    assert not fields["eta"].relative
    assert not fields["phi"].relative


def test_classes_are_right_on_the_side_of_the_truth():
    field = compared()["q"]
    assert field.kind == "class"
    np.testing.assert_array_equal(field.right(field.found), [True, False, True])
    flags = Field("slot", "isLong", "", "class", np.array([0.0, 1.0]), np.array([0.4, 0.4]), None, {}, 0)
    np.testing.assert_array_equal(flags.right(flags.found), [True, False])


def test_a_field_with_a_probability_is_a_class_even_if_the_split_shows_one_value():
    prepared = PREPARED | {"slot/target": PREPARED["slot/target"].copy()}
    prepared["slot/target"][:, 2] = 1
    predicted = PREDICTED | {"slot/q": np.array([1, 1, -1, 1], np.float32)}
    field = compared(predicted, prepared=prepared)["q"]
    assert field.kind == "class"
    np.testing.assert_array_equal(field.right(field.found), [True, False, True])


def test_the_yardstick_comes_along():
    field = compared(yardstick={"slot/eta": np.full(4, 0.25, np.float32)})["eta"]
    assert field.mean is not None
    np.testing.assert_allclose(field.residual(field.mean), [1.25, -1.75, 0.25])


def test_members_with_a_number_that_is_not_finite_are_dropped_together_and_counted():
    predicted = PREDICTED | {"slot/eta": np.array([-1, np.nan, np.inf, 0], np.float32)}
    field = compared(predicted)["eta"]
    assert field.dropped == 1  # the NaN does not count anyway
    np.testing.assert_array_equal(field.truth, [-1, 0])
    np.testing.assert_array_equal(field.against["pt"], [5, 10])


def test_the_width_is_that_of_the_metrics():
    values = np.random.default_rng(0).standard_t(3, 501)
    assert Spread.of(values).width == pytest.approx(robust_width(values), rel=1e-12)
    assert Spread.of(values).median == np.median(values)


def test_errors_agree_with_the_spread_of_many_samples():
    samples = 2 * np.random.default_rng(1).normal(size=(400, 1000))
    spreads = [Spread.of(sample) for sample in samples]
    for value, error in (("width", "width_error"), ("median", "median_error")):
        truth = np.std([getattr(s, value) for s in spreads])
        assert np.mean([getattr(s, error) for s in spreads]) == pytest.approx(truth, rel=0.1)


def test_errors_agree_with_the_closed_form_of_a_normal_distribution():
    n = 200_001
    values = norm.ppf((np.arange(n) + 0.5) / n)
    found = Spread.of(values)
    density = norm.pdf(norm.ppf(0.16))
    variance = (2 * 0.16 * 0.84 - 2 * 0.16 * 0.16) / density**2 / n / 4
    assert found.width_error == pytest.approx(math.sqrt(variance), rel=1e-3)
    assert found.median_error == pytest.approx(0.5 / norm.pdf(0) / math.sqrt(n), rel=1e-3)


@pytest.mark.parametrize("n", [0, 1, LEAST - 1])
def test_few_residuals_have_no_width(n):
    found = Spread.of(np.arange(n, dtype=float))
    assert found.count == n
    assert all(math.isnan(x) for x in (found.width, found.width_error, found.median, found.median_error))


def test_bins_hold_what_a_plain_loop_finds_and_as_many_as_the_efficiency():
    rng = np.random.default_rng(2)
    edges = [-1.0, 0.0, 0.5, 0.5625, 2.0]
    values = np.concatenate([rng.normal(size=300), edges])
    residual = rng.normal(size=len(values))
    found = spread_in_bins(values, residual, edges)
    for index, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        last = index == len(edges) - 2
        own = [r for v, r in zip(values, residual, strict=True) if low <= v < high or (last and v == high)]
        assert found[index].count == len(own)
        if len(own) >= LEAST:
            assert found[index].width == pytest.approx(robust_width(np.array(own)))
    counted = binned(values, np.ones(len(values), bool), edges)
    assert [b.count for b in found] == [b.total for b in counted.bins]


@pytest.mark.parametrize(
    ("values", "unit", "edges"),
    [
        ([5.0, 300.0], "GeV", PT_EDGES[5:]),
        ([4.9, 6.0], "GeV", PT_EDGES[4:]),
        ([300.0], "GeV", PT_EDGES[-2:]),
        ([0.0], "", PT_EDGES),
        ([700.0], "MeV", [1000 * edge for edge in PT_EDGES[2:]]),
    ],
)
def test_pt_bins_begin_with_the_smallest_value(values, unit, edges):
    assert bin_edges("pt", np.array(values), unit) == pytest.approx(edges)


@pytest.mark.parametrize(("largest", "reach"), [(0.0, 0.5), (0.5, 0.5), (2.51, 3.0), (2.69, 3.0), (70.0, 6.0)])
def test_eta_bins_are_symmetric_and_hold_all(largest, reach):
    edges = bin_edges("eta", np.array([-largest, 0.1]), "")
    assert edges[0] == -reach
    assert edges[-1] == reach
    np.testing.assert_allclose(np.diff(edges), 0.5)
