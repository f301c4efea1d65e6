import numpy as np
import pytest

from frz.heads.lines import N_CURVE, curve_of, line_coordinates

RNG = np.random.default_rng(0)
ONE = np.zeros(20, np.int64)


@pytest.mark.parametrize("angle", [-1.5, -0.4, 0.0, 0.3, 1.2])
def test_points_on_a_line_have_no_distance_and_their_place_along_it(angle):
    along = np.sort(RNG.uniform(2, 9, 20))
    x, y = along * np.cos(angle) + 3, along * np.sin(angle) - 1
    found = line_coordinates(x, y, np.ones(20), ONE, 1)
    np.testing.assert_allclose(found[:, 0], along - along.mean(), atol=1e-5)
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-6)


def test_sign_of_a_bend_is_the_same_wherever_the_track_goes():
    along = np.linspace(0, 10, 20)
    bend = 0.01 * (along - 5) ** 2
    for angle in (-1.3, 0.2, 1.4):
        x = along * np.cos(angle) - bend * np.sin(angle)
        y = along * np.sin(angle) + bend * np.cos(angle)
        found = line_coordinates(x, y, np.ones(20), ONE, 1)
        assert found[0, 1] > 0.05
        assert found[10, 1] < -0.05


def test_a_few_wrong_hits_do_not_turn_the_line():
    x = np.linspace(0, 10, 20)
    y = 0.5 * x
    y[[3, 15]] += (4, -3)
    across = line_coordinates(x, y, np.ones(20), ONE, 1)[:, 1]
    right = np.delete(np.arange(20), [3, 15])
    assert np.abs(across[right]).max() < 0.05
    np.testing.assert_allclose(across[[3, 15]], np.array([4, -3]) * np.cos(np.arctan(0.5)), atol=0.1)


def test_improbable_hits_hardly_count():
    x, y = np.append(np.linspace(0, 10, 19), 5.0), np.append(np.zeros(19), 8.0)
    across = line_coordinates(x, y, np.append(np.ones(19), 0.1), ONE, 1)[:, 1]
    assert np.abs(across[:19]).max() < 0.01


def test_slots_do_not_mix_and_degenerate_ones_are_finite():
    sizes = (5, 0, 1, 2, 7)
    slot = np.repeat(np.arange(5), sizes)
    x, y, w = RNG.normal(size=(3, 15))
    w = np.abs(w) + 0.1
    together = line_coordinates(x, y, w, slot, 5)
    for one in range(5):
        chosen = slot == one
        alone = line_coordinates(x[chosen], y[chosen], w[chosen], np.zeros(chosen.sum(), np.int64), 1)
        np.testing.assert_allclose(together[chosen], alone, rtol=1e-5, atol=1e-6)
    assert together[slot == 2].tolist() == [[0, 0]]
    np.testing.assert_allclose(together[slot == 3][:, 1], 0, atol=1e-6)


def test_equal_hits_are_finite():
    found = line_coordinates(np.ones(20), np.ones(20), np.ones(20), ONE, 1)
    assert found.tolist() == [[0, 0]] * 20


def test_curve_of_exact_parabolas():
    rng = np.random.default_rng(0)
    slot = np.repeat([0, 1, 2], [30, 25, 40])
    bend = np.array([0.004, -0.02, 0.0])
    along = rng.uniform(-1, 1, len(slot))
    across = bend[slot] * along**2 + 0.001
    weight = rng.uniform(0.5, 1, len(slot))
    found = curve_of(along, across, weight, slot, 4)
    assert found.shape == (4, N_CURVE)
    extent = [np.sqrt(np.average(along[slot == s] ** 2, weights=weight[slot == s] ** 2)) for s in range(3)]
    np.testing.assert_allclose(found[:3, 5], np.log(extent), rtol=1e-5)
    np.testing.assert_allclose(found[:3, 4], bend, atol=1e-4)
    np.testing.assert_allclose(np.sinh(found[:3, 2]) * 0.002, bend * np.square(extent), atol=1e-5)
    np.testing.assert_allclose(np.sinh(found[:3, 0]) * 0.002, 0.001, rtol=1e-2)
    assert np.abs(found[3]).max() == 0


def test_curve_of_few_hits_is_finite():
    for n in (1, 2, 3):
        found = curve_of(np.arange(n) - 1.0, np.zeros(n), np.ones(n), np.zeros(n, np.int64), 1)
        assert np.isfinite(found).all()


def test_curve_takes_no_notice_of_one_wrong_hit():
    along = np.linspace(-1, 1, 40)
    across = 0.01 * along**2
    wrong = across.copy()
    wrong[7] = 0.5
    slot, weight = np.zeros(40, np.int64), np.ones(40)
    good, found = (curve_of(along, values, weight, slot, 1)[0, 4] for values in (across, wrong))
    assert found == pytest.approx(good, rel=0.1)
