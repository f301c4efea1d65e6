"""Picking, deriving and standardising hit fields."""

import math

import numpy as np
import pytest
import torch
from muon_events import SCHEMA, make_events

from frz.backbones.hit_track.fields import DERIVED, HitFields, derive
from frz.errors import ConfigError
from frz.store.schema import Array, Axis, EventArrays, Schema

XYZ = Schema(axes={"hit": Axis()}, arrays={"hit/raw": Array(dtype="float32", shape=(4,), columns=("x", "y", "z", "t"))})
POINT = ("x", "y", "z")


def hits(values: np.ndarray) -> EventArrays:
    return {"hit/raw": np.asarray(values, np.float32)}


def test_derived_fields_are_the_formulas():
    x, y, z = 3.0, -4.0, 12.0
    found = {name: value.item() for name, value in derive(*torch.tensor([x, y, z]).unbind()).items()}
    theta = math.acos(z / 13)
    expected = {"r": 5.0, "s": 13.0, "theta": theta, "phi": math.atan2(y, x), "eta": -math.log(math.tan(theta / 2))}
    assert found == pytest.approx(expected, rel=1e-6)
    assert tuple(found) == DERIVED


@pytest.mark.parametrize("point", [(0.0, 0.0, 5.0), (0.0, 0.0, -5.0), (0.0, 0.0, 0.0)])
def test_derived_fields_are_finite_on_the_axis(point):
    found = derive(*torch.tensor(point).unbind())
    assert all(value.isfinite() for value in found.values())
    assert abs(found["eta"].item()) < 10


def test_fields_come_in_the_order_asked_for():
    fields = HitFields(XYZ, "hit/raw", ("r", "t", "phi", "x"), ("theta", "t"), POINT)
    raw = fields.raw(torch.tensor([[3.0, 4.0, 12.0, 7.0]]))
    assert fields.all_names == ("r", "t", "phi", "x", "theta")
    expected = [5.0, 7.0, math.atan2(4, 3), 3.0, math.atan2(5, 12)]
    assert raw[0].tolist() == pytest.approx(expected)


def test_no_fields_means_every_column():
    assert HitFields(XYZ, "hit/raw", (), (), None).names == ("x", "y", "z", "t")


def test_a_stored_column_is_not_derived_again():
    schema = Schema(
        axes={"hit": Axis()},
        arrays={"hit/raw": Array(dtype="float32", shape=(4,), columns=("x", "y", "z", "phi"))},
    )
    fields = HitFields(schema, "hit/raw", ("phi",), (), POINT)
    assert fields.raw(torch.tensor([[1.0, 1.0, 0.0, 9.0]])).item() == 9.0


def test_fit_measures_mean_and_width_whatever_the_batches():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1000, 4)) * [1, 10, 1e4, 1e-3] + [0, 5, 3e4, 100]
    pieces = [hits(values[a:b]) for a, b in [(0, 1), (1, 1), (1, 700), (700, 1000)]]
    fields = HitFields(XYZ, "hit/raw", (), (), None)
    fields.fit(iter(pieces))
    exact = values.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(fields.mean.numpy(), exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(fields.width.numpy(), exact.std(0), rtol=1e-5)
    scaled = fields.scale(fields.raw(torch.from_numpy(values.astype(np.float32)))).numpy()
    np.testing.assert_allclose(scaled.std(0), 1, rtol=1e-3)


def test_a_field_that_does_not_vary_gets_width_one():
    values = np.random.default_rng(0).normal(size=(50, 4))
    values[:, 1], values[:, 2] = 0.0, 1234.567
    fields = HitFields(XYZ, "hit/raw", (), (), None)
    fields.fit([hits(values[:20]), hits(values[20:])])
    assert fields.width[1:3].tolist() == [1.0, 1.0]


def test_fit_without_hits_leaves_the_identity():
    fields = HitFields(XYZ, "hit/raw", (), (), None)
    fields.fit([hits(np.zeros((0, 4)))])
    assert fields.mean.tolist() == [0.0] * 4
    assert fields.width.tolist() == [1.0] * 4


def test_fit_is_the_same_after_a_second_time():
    fields = HitFields(SCHEMA, "hit/raw", (), (), None)
    fields.fit([make_events([30, 40])])
    mean = fields.mean.clone()
    fields.fit([make_events([30, 40])])
    assert torch.equal(fields.mean, mean)


@pytest.mark.parametrize(
    ("array", "names", "position", "message"),
    [
        ("hit/rwa", (), None, "no array is called 'hit/rwa'; did you mean 'hit/raw'?"),
        ("hit/raw", ("driftT",), None, "no column of hit/raw is called 'driftT'; did you mean 'driftR'?"),
        ("hit/raw", ("theta",), None, "name its columns in model.position"),
        ("hit/raw", ("theta",), ("globEdgeLowX", "globEdgeLowY", "globEdgeLowQ"), "did you mean 'globEdgeLow"),
        ("hit/raw", ("thet",), ("globEdgeLowX", "globEdgeLowY", "globEdgeLowZ"), "did you mean 'theta'?"),
    ],
)
def test_a_missing_name_is_said_with_the_nearest(array, names, position, message):
    with pytest.raises(ConfigError) as error:
        HitFields(SCHEMA, array, names, (), position)
    assert message in str(error.value)
